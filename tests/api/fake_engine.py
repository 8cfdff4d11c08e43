"""An engine without a kernel, for tests of the API and the command line: records in dicts."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from linkspan.dataplane import Add, Link, Veth
from linkspan.drivers.records import Endpoint, Network, Opening, PublishedPort, Sandbox, Subnet
from linkspan.engine.actors import acting
from linkspan.engine.auditing import Configuration, Hole, find_holes
from linkspan.engine.containers.records import ContainerRecord
from linkspan.engine.events import EventLog
from linkspan.engine.plans import Plan
from linkspan.engine.policies import Policy, Violation, draft_policy, find_violations
from linkspan.engine.publishing import close_ports
from linkspan.engine.reconcile import Report
from linkspan.engine.runtime.log import LogEntry
from linkspan.engine.settings import Settings
from linkspan.engine.store import SqliteStore
from linkspan.errors import Conflict, InvalidRequest, NameInUse, NetworkInUse, NotFound


def identify(kind: str, name: str) -> str:
    """An id that is the same in every run."""
    return hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()


class FakeEngine:
    """Knows names and ids, refuses duplicates, and counts addresses up. No checks beyond that."""

    def __init__(self, events: EventLog) -> None:
        self.events = events
        self.settings = Settings()
        self.by_name: dict[str, dict[str, Any]] = {"network": {}, "sandbox": {}}
        self.failure: BaseException | None = None
        self.in_force: dict[str, Policy] = {}
        self.cut = False
        self.containers = FakeContainers(self)
        for name, driver in (("bridge", "bridge"), ("host", "host"), ("none", "null")):
            self._put_network(name, driver, ["172.20.0.0/24"] if driver == "bridge" else [])

    @classmethod
    async def open(cls, path: str = ":memory:") -> FakeEngine:
        """One with an event log in a store at `path`."""
        return cls(await EventLog.open(SqliteStore(path)))

    def unanswered(self) -> dict[str, str]:
        """Sandboxes without names: none."""
        return {}

    def _put_network(self, name: str, driver: str, subnets: list[str], **more: Any) -> Network:
        network = Network(
            id=identify("network", name),
            name=name,
            driver=driver,
            subnets=tuple(
                Subnet(subnet=s, gateway=s.replace("0/", "1/").split("/")[0]) for s in subnets
            ),
            interface=f"ls-{name}"[:15] if driver == "bridge" else "",
            created=1_800_000_000.0,
            **more,
        )
        self.by_name["network"][name] = network
        return network

    def _find(self, kind: str, ref: str) -> Any:
        for one in self.by_name[kind].values():
            if ref in (one.name, one.id) or one.id.startswith(ref):
                return one
        raise NotFound(f"there is no {kind} {ref!r}")

    def _maybe_fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    # Networks

    def networks(self) -> list[Network]:
        return list(self.by_name["network"].values())

    def network(self, ref: str) -> Network:
        return self._find("network", ref)

    def network_state(self, network: Network) -> str:
        return "up"

    async def create_network(self, request: Any, *, dry_run: bool = False) -> Network | Plan:
        self._maybe_fail()
        if request.name in self.by_name["network"]:
            raise NameInUse(f"a network named {request.name} exists already")
        if dry_run:
            return Plan((Add(Link(name=f"ls-{request.name}", kind=Veth())),))
        subnets = [s if isinstance(s, str) else s.subnet or "10.30.0.0/24" for s in request.subnets]
        made = self._put_network(
            request.name,
            request.driver,
            subnets or ["10.20.0.0/24"],
            options=request.options,
            labels=request.labels,
            internal=request.internal,
        )
        await self.events.append("network", "created", made.name, made.id)
        return made

    async def remove_network(self, ref: str, *, dry_run: bool = False) -> Plan | None:
        network = self.network(ref)
        users = [s.name for s in self.sandboxes() for e in s.endpoints if e.network == network.id]
        if users:
            raise NetworkInUse(f"network {network.name} is in use by {', '.join(users)}")
        if dry_run:
            return Plan(())
        del self.by_name["network"][network.name]
        return None

    async def prune_networks(self, *, dry_run: bool = False) -> list[Network] | Plan:
        used = {e.network for s in self.sandboxes() for e in s.endpoints}
        unused = [
            n
            for n in self.networks()
            if n.id not in used and n.name not in ("bridge", "host", "none")
        ]
        if dry_run:
            return Plan(())
        for network in unused:
            del self.by_name["network"][network.name]
        return unused

    def members(self, ref: str) -> list[Sandbox]:
        network = self.network(ref)
        return [s for s in self.sandboxes() if any(e.network == network.id for e in s.endpoints)]

    # Sandboxes

    def sandboxes(self) -> list[Sandbox]:
        return list(self.by_name["sandbox"].values())

    def sandbox(self, ref: str) -> Sandbox:
        return self._find("sandbox", ref)

    async def create_sandbox(self, request: Any, *, dry_run: bool = False) -> Sandbox | Plan:
        self._maybe_fail()
        name = request.name or f"brisk_ketch{len(self.by_name['sandbox'])}"
        if name in self.by_name["sandbox"]:
            raise NameInUse(f"a sandbox named {name} exists already")
        wanted = [
            n if isinstance(n, str) else n.network
            for n in (["bridge"] if request.networks is None else request.networks)
        ]
        networks = [self.network(ref) for ref in wanted]
        if dry_run:
            return Plan((Add(Link(name="veth0", kind=Veth(peer_name="eth0"))),))
        number = len(self.by_name["sandbox"]) + 2
        sandbox = Sandbox(
            id=identify("sandbox", name),
            name=name,
            state="up",
            netns=getattr(request, "netns", None) or f"/run/linkspan/netns/{name}",
            made=getattr(request, "netns", None) is None,
            endpoints=tuple(
                self._endpoint(network, name, number, index)
                for index, network in enumerate(networks)
            ),
            ports=tuple(read_port(text) for text in request.ports),
            labels=request.labels,
            created=1_800_000_000.0,
        )
        self.by_name["sandbox"][name] = sandbox
        await self.events.append("sandbox", "created", name, sandbox.id)
        return sandbox

    def _endpoint(self, network: Network, name: str, number: int, index: int) -> Endpoint:
        gateway = network.gateway_ipv4
        prefix = gateway.rpartition(".")[0] if gateway else None
        return Endpoint(
            id=identify("endpoint", f"{name}/{network.name}"),
            network=network.id,
            interface=f"eth{index}",
            host_interface=f"lv{number}",
            ipv4=f"{prefix}.{number}/24" if prefix else None,
            mac=f"02:42:0a:14:00:{number:02x}" if prefix else None,
            gateway=None if network.internal else gateway,
        )

    async def remove_sandbox(
        self, ref: str, *, force: bool = False, dry_run: bool = False
    ) -> Plan | None:
        sandbox = self.sandbox(ref)
        if dry_run:
            return Plan(())
        self.containers.remove(sandbox, force=force)
        del self.by_name["sandbox"][sandbox.name]
        return None

    async def connect(self, ref: str, request: Any, *, dry_run: bool = False) -> Sandbox | Plan:
        sandbox, network = self.sandbox(ref), self.network(request.network)
        if dry_run:
            return Plan(())
        more = self._endpoint(network, sandbox.name, 9, len(sandbox.endpoints))
        changed = msgspec.structs.replace(sandbox, endpoints=(*sandbox.endpoints, more))
        self.by_name["sandbox"][sandbox.name] = changed
        return changed

    async def disconnect(
        self, ref: str, network_ref: str, *, force: bool = False, dry_run: bool = False
    ) -> Sandbox | Plan:
        sandbox, network = self.sandbox(ref), self.network(network_ref)
        kept = tuple(e for e in sandbox.endpoints if e.network != network.id)
        if len(kept) == len(sandbox.endpoints):
            raise NotFound(f"{sandbox.name} is not on network {network.name}")
        if dry_run:
            return Plan(())
        changed = msgspec.structs.replace(sandbox, endpoints=kept)
        self.by_name["sandbox"][sandbox.name] = changed
        return changed

    async def publish(self, ref: str, ports: Any, *, dry_run: bool = False) -> Sandbox | Plan:
        sandbox, found = self.sandbox(ref), tuple(read_port(text) for text in ports)
        if dry_run:
            return Plan(())
        return self._put_ports(sandbox, (*sandbox.ports, *found))

    async def unpublish(
        self, ref: str, port: str, *, now: bool = False, dry_run: bool = False
    ) -> Sandbox | Plan:
        sandbox = self.sandbox(ref)
        closing = close_ports(port, sandbox.ports, sandbox.name)
        if dry_run:
            return Plan(())
        self.cut = now
        return self._put_ports(
            sandbox, tuple(p for p in sandbox.ports if p not in closing.affected)
        )

    def _put_ports(self, sandbox: Sandbox, ports: tuple[PublishedPort, ...]) -> Sandbox:
        changed = msgspec.structs.replace(sandbox, ports=ports)
        self.by_name["sandbox"][sandbox.name] = changed
        return changed

    # Policies

    def policies(self) -> list[Policy]:
        return list(self.in_force.values())

    def violations(self, policy: Policy) -> list[Violation]:
        networks = {network.id: network for network in self.networks()}
        return [v for s in self.sandboxes() for v in find_violations([policy], s, networks)]

    async def set_policy(self, name: str, values: Any, *, dry_run: bool = False) -> Policy | Plan:
        policy = draft_policy(name, values, Opening(at=1_800_000_000.0, by=acting()))
        if dry_run:
            return Plan(())
        self.in_force[name] = policy
        return policy

    async def unset_policy(self, name: str, *, dry_run: bool = False) -> Plan | None:
        if name not in self.in_force:
            raise NotFound(f"policy {name} is not set")
        if dry_run:
            return Plan(())
        del self.in_force[name]
        return None

    async def audit(self) -> list[Hole]:
        networks = {network.id: network for network in self.networks()}
        return find_holes(Configuration(networks=networks, sandboxes=self.sandboxes()))

    # The host as a whole

    async def reconcile(self) -> Report:
        return Report(repaired=("change bridge ls-web, up",))

    async def purge(self, *, dry_run: bool = False) -> Report | Plan:
        if dry_run:
            return Plan(())
        self.by_name = {"network": {}, "sandbox": {}}
        return Report(removed=("remove bridge ls-bridge",))


class FakeContainers:
    """Containers that run nothing: a record each, and what the tests say that they wrote."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.by_id: dict[str, ContainerRecord] = {}
        self.written: list[LogEntry] = []
        self.ended = asyncio.Event()
        self.asked: list[tuple[Any, ...]] = []
        self.sessions: dict[str, FakeSession] = {}

    def owns(self, sandbox_id: str) -> bool:
        return sandbox_id in self.by_id

    def record(self, sandbox_id: str) -> ContainerRecord | None:
        return self.by_id.get(sandbox_id)

    def log_path(self, sandbox_id: str) -> Path:
        return Path("/var/lib/linkspan/containers") / sandbox_id / "log"

    def attach_directory(self, sandbox_id: str) -> Path | None:
        return None

    def _change(self, ref: str, **changes: Any) -> Sandbox:
        sandbox = self.engine.sandbox(ref)
        if sandbox.id not in self.by_id:
            raise Conflict(f"sandbox {sandbox.name} is no container")
        self.by_id[sandbox.id] = msgspec.structs.replace(self.by_id[sandbox.id], **changes)
        return sandbox

    async def create(self, request: Any, *, dry_run: bool = False) -> Sandbox | Plan:
        made = await self.engine.create_sandbox(request, dry_run=dry_run)
        if isinstance(made, Sandbox):
            command = tuple(request.command)
            record = ContainerRecord(id=made.id, command=command, status="created")
            self.by_id[made.id] = msgspec.structs.replace(record, restart=request.restart)
        return made

    async def start(self, ref: str) -> Sandbox:
        return self._change(ref, status="running", started=1_800_000_001.0)

    async def stop(self, ref: str, timeout: float) -> Sandbox | None:  # noqa: ASYNC109
        self.asked.append(("stop", ref, timeout))
        return self._change(ref, status="exited", exit_code=143)

    async def kill(self, ref: str, signal: str) -> None:
        self.asked.append(("kill", ref, signal))
        self._change(ref)

    async def wait(self, ref: str) -> int:
        self._change(ref)
        await self.ended.wait()
        return 7

    def remove(self, sandbox: Sandbox, *, force: bool) -> None:
        record = self.by_id.get(sandbox.id)
        if record is not None and record.is_live and not force:
            raise Conflict(f"container {sandbox.name} runs; stop it first")
        self.by_id.pop(sandbox.id, None)

    async def exec(self, ref: str, command: tuple[str, ...], **options: Any) -> FakeSession:
        sandbox = self._change(ref)
        self.asked.append(("exec", ref, command, options))
        self.sessions["5e"] = FakeSession(sandbox.id)
        return self.sessions["5e"]

    def exec_session(self, ref: str, session: str) -> FakeSession:
        self._change(ref)
        if session not in self.sessions:
            raise NotFound(f"exec session {session[:12]} does not exist")
        return self.sessions[session]

    async def end_session(self, session: FakeSession) -> None:
        self.sessions.pop(session.id)

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        self._change(ref)
        self.asked.append(("resize", ref, rows, columns))

    async def logs(
        self, ref: str, *, follow: bool, tail: int | None, since: int | None
    ) -> AsyncIterator[LogEntry]:
        self._change(ref)
        for entry in self.written[-tail:] if tail else self.written:
            if since is None or entry.time > since:
                yield entry
        if follow:
            await self.ended.wait()


class FakeSession:
    """One more process that does not run."""

    id = "5e"

    def __init__(self, container_id: str) -> None:
        self.container_id = container_id
        self.attach_directory = Path("/run/linkspan/containers") / container_id / "exec/5e"

    async def start(self) -> int:
        return 4711

    async def wait(self) -> int:
        return 6


def read_port(text: str) -> PublishedPort:
    """The forms that the tests use: HOST:PORT and PORT, with /protocol."""
    match = re.fullmatch(r"(?:([0-9]{1,5}):)?([0-9]{1,5})(?:/(tcp|udp))?", text)
    if match is None:
        raise InvalidRequest(f"port {text!r}: the fake engine knows HOST:PORT/PROTOCOL")
    host = int(match[1] or "49152")
    return PublishedPort(
        host_port=host, host_port_end=host, port=int(match[2]), protocol=match[3] or "tcp"
    )
