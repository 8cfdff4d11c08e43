"""The engine as a whole, on a kernel that is a value."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.stage import OWN_INODE, ModelHost, play, until
from linkspan.dataplane import HOST, Add, Link, Namespace, Sysctl
from linkspan.engine.engine import Engine
from linkspan.engine.entries import write_sandbox
from linkspan.engine.plans import Plan
from linkspan.engine.publishing import HostSocket
from linkspan.engine.requests import NetworkAttachment, NetworkRequest, SandboxRequest
from linkspan.errors import (
    AddressInUse,
    Conflict,
    InvalidRequest,
    KernelRefused,
    NameInUse,
    NetworkInUse,
    NotFound,
    PortInUse,
    StorageFailed,
)
from linkspan.kernel import failpoints

WEB = NetworkRequest(name="web", subnets=["10.20.0.0/24"])
SHOP = SandboxRequest(name="shop", networks=["web"], ports=["8080:80"])


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    failpoints.arm_from_environment()


def test_a_sandbox_comes_and_goes_without_a_trace(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        before = host.plane
        shop = await engine.create_sandbox(SHOP)
        assert (shop.state, shop.endpoints[0].ipv4) == ("up", "10.20.0.2/24")
        assert host.elements("ports") == {("tcp", 8080, "10.20.0.2", 80)}
        assert engine.members("web") == [engine.sandbox("shop")]
        await engine.remove_sandbox("shop")
        assert host.plane == before
        with pytest.raises(NotFound):
            engine.sandbox("shop")

    play(tmp_path, talk)


def test_what_is_stored_is_there_again_after_a_start(tmp_path: Path) -> None:
    async def make(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        await engine.create_sandbox(SHOP)

    async def look(engine: Engine, host: ModelHost) -> None:
        assert engine.sandbox("shop").endpoints[0].ipv4 == "10.20.0.2/24"
        assert host.plane == as_left
        assert not await engine.reconcile()
        # Leases and ports are taken in again.
        other = SandboxRequest(name="other", networks=["web"])
        assert (await engine.create_sandbox(other)).endpoints[0].address == "10.20.0.3"
        with pytest.raises(PortInUse, match="shop"):
            await engine.create_sandbox(SandboxRequest(networks=["web"], ports=["8080:81"]))

    host = play(tmp_path, make)
    as_left = host.plane
    play(tmp_path, look, host)


def test_an_empty_kernel_is_filled_from_the_store(tmp_path: Path) -> None:
    async def make(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        await engine.create_sandbox(SHOP)

    async def look(engine: Engine, host: ModelHost) -> None:
        assert host.pairs() == left.pairs()
        assert host.elements("ports") == left.elements("ports")
        assert host.bridges() == left.bridges()

    left = play(tmp_path, make)
    play(tmp_path, look)


def test_marks_of_ours_that_nobody_knows_are_removed(tmp_path: Path) -> None:
    host = ModelHost()
    stray = Link(name="lsvstray", alias="linkspan:endpoint:stray")
    theirs = Link(name="docker0", alias="someone else's")
    host.plane = host.plane.with_object(stray).with_object(theirs)
    host.prepare_namespace("stray")

    async def talk(engine: Engine, host: ModelHost) -> None:
        assert stray.key not in host.plane
        assert theirs.key in host.plane
        assert host.held_namespaces() == {}

    play(tmp_path, talk, host)


def test_a_sandbox_whose_request_never_returned_is_undone(
    tmp_path: Path, armed: pytest.MonkeyPatch
) -> None:
    async def make(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        shop = await engine.create_sandbox(SHOP)
        # As a crash would leave it.
        half = msgspec.structs.replace(shop, state="allocated", answered=False)
        await engine._core.save(write_sandbox(half, shop))

    async def look(engine: Engine, host: ModelHost) -> None:
        assert engine.sandboxes() == []
        assert host.pairs() == set()
        assert host.held_namespaces() == {}
        await engine.create_sandbox(
            SandboxRequest(
                networks=[NetworkAttachment(network="web", ip="10.20.0.2")], ports=["8080:80"]
            )
        )

    play(tmp_path, look, play(tmp_path, make))


@pytest.mark.parametrize(
    "point",
    ["attach.allocated", "attach.stored", "attach.namespace", "attach.applied"],
)
def test_a_failure_between_two_steps_is_taken_back(
    tmp_path: Path, armed: pytest.MonkeyPatch, point: str
) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        before = host.plane
        armed.setenv(failpoints.VARIABLE, f"{point}:raise")
        failpoints.arm_from_environment()
        with pytest.raises(failpoints.InjectedFailure):
            await engine.create_sandbox(SHOP)
        assert host.plane == before
        assert host.held_namespaces() == {}
        assert engine.sandboxes() == []
        assert await engine._core.store.list("sandboxes/") == []
        assert await engine._core.store.list("leases/") == []
        shop = await engine.create_sandbox(SHOP)
        assert shop.state == "up"

    play(tmp_path, talk)


def test_a_refusal_of_the_kernel_is_taken_back(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        await engine.create_sandbox(SandboxRequest(name="base", networks=["bridge"]))
        before, base = host.plane, engine.sandbox("base")
        host.refuse = lambda change: any(isinstance(op, Add) for op in change)
        for work in (
            engine.create_sandbox(SHOP),
            engine.connect("base", "web"),
            engine.create_network(NetworkRequest(name="other")),
        ):
            with pytest.raises(KernelRefused):
                await work
        assert host.plane == before
        assert [s.name for s in engine.sandboxes()] == ["base"]
        assert engine.sandbox("base") == base
        assert len(engine.networks()) == 4
        host.refuse = lambda change: False
        await engine.create_network(NetworkRequest(name="other"))
        assert (await engine.create_sandbox(SHOP)).state == "up"

    play(tmp_path, talk)


def test_a_full_disk_is_taken_back(tmp_path: Path, armed: pytest.MonkeyPatch) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        before = host.plane

        async def full(*_: object, **__: object) -> int:
            raise StorageFailed("the disk is full")

        with armed.context() as patch:
            patch.setattr(engine._core.store, "transaction", full)
            for work in (
                engine.create_sandbox(SHOP),
                engine.create_network(NetworkRequest(name="x1")),
            ):
                with pytest.raises(StorageFailed):
                    await work
        assert host.plane == before
        assert engine.sandboxes() == []
        assert (await engine.create_sandbox(SHOP)).state == "up"

    play(tmp_path, talk)


def test_a_dry_run_tells_what_will_happen_and_takes_nothing(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        before, changes = host.plane, len(host.batches)
        plan = await engine.create_sandbox(SHOP, dry_run=True)
        assert isinstance(plan, Plan)
        assert "create address 10.20.0.2/24 on eth0, in sandbox shop" in plan.lines()
        shop = await engine.create_sandbox(SHOP)
        assert shop.endpoints[0].address == "10.20.0.2"
        for planned in (
            await engine.remove_sandbox("shop", dry_run=True),
            await engine.connect("shop", "bridge", dry_run=True),
            await engine.disconnect("shop", "web", dry_run=True),
            await engine.prune_networks(dry_run=True),
            await engine.purge(dry_run=True),
        ):
            assert isinstance(planned, Plan)
        assert len(host.batches) == changes + 1
        assert len(host.plane) > len(before)

    play(tmp_path, talk)


def test_requests_that_wait_share_a_batch(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        host.batches.clear()
        requests = [SandboxRequest(networks=["web"]) for _ in range(40)]
        made = await asyncio.gather(*(engine.create_sandbox(r) for r in requests))
        assert len({s.endpoints[0].address for s in made}) == 40
        assert len({s.name for s in made}) == 40
        assert len(host.pairs()) == 40
        assert sum(host.batches) == 40
        await asyncio.gather(*(engine.remove_sandbox(s.id) for s in made))
        assert host.pairs() == set()
        assert max(host.batches) > 1

    play(tmp_path, talk)


def test_one_name_and_one_port_for_one_of_many(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        rivals = [SHOP, msgspec.structs.replace(SHOP, name="rival"), SHOP]
        outcomes = await asyncio.gather(
            *(engine.create_sandbox(r) for r in rivals), return_exceptions=True
        )
        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds == ["NameInUse", "PortInUse", "Sandbox"]
        with pytest.raises(NameInUse):
            await engine.create_network(WEB)

    play(tmp_path, talk)


def test_removal_waits_for_the_making_and_a_network_in_use_stays(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        making = asyncio.ensure_future(engine.create_sandbox(SHOP))
        await until(engine.sandboxes)
        with pytest.raises(NetworkInUse, match="shop"):
            await engine.remove_network("web")
        await engine.remove_sandbox("shop")
        assert (await making).name == "shop"
        assert engine.sandboxes() == []
        await engine.remove_network("web")
        assert host.bridges() == {"linkspan0"}

    play(tmp_path, talk)


def test_whoever_leaves_does_not_stop_what_was_asked(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        asking = asyncio.ensure_future(engine.create_sandbox(SHOP))
        while not engine.sandboxes():  # noqa: ASYNC110
            await asyncio.sleep(0)  # any longer, and it may be answered already
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: engine.sandbox("shop").state == "up")

    play(tmp_path, talk)


class TestForeign:
    PATH = "/run/netns/ctr7"

    def host(self) -> ModelHost:
        host = ModelHost()
        host.foreign = {self.PATH: 77, "/run/netns/host": OWN_INODE}
        return host

    def test_it_is_not_ours_to_delete(self, tmp_path: Path) -> None:
        async def talk(engine: Engine, host: ModelHost) -> None:
            sandbox = await engine.create_sandbox(
                SandboxRequest(name="ctr7", netns=self.PATH, networks=["bridge"])
            )
            assert (sandbox.made, sandbox.inode) == (False, 77)
            assert not list(host.plane.of(Namespace))
            with pytest.raises(Conflict, match="ctr7"):
                await engine.create_sandbox(SandboxRequest(netns=self.PATH))
            with pytest.raises(Conflict, match="own"):
                await engine.create_sandbox(SandboxRequest(netns="/run/netns/host"))
            with pytest.raises(NotFound):
                await engine.create_sandbox(SandboxRequest(netns="/run/netns/none"))
            await engine.remove_sandbox("ctr7")
            assert host.pairs() == set()
            assert host.adopted == {}

        play(tmp_path, talk, self.host())

    def test_one_that_vanished_is_gone(self, tmp_path: Path) -> None:
        async def talk(engine: Engine, host: ModelHost) -> None:
            request = SandboxRequest(
                name="ctr7", netns=self.PATH, networks=["bridge"], ports=["8080:80"]
            )
            await engine.create_sandbox(request)
            host.foreign[self.PATH] = 78  # another one under the same path
            report = await engine.reconcile()
            assert report.gone == ("ctr7",)
            assert engine.sandbox("ctr7").state == "gone"
            assert host.pairs() == set()
            assert host.elements("ports") == set()
            # Everything is free again: the path, the port, the network.
            await engine.create_sandbox(msgspec.structs.replace(request, name="next"))

        play(tmp_path, talk, self.host())


def test_release_and_restore_keep_what_was_asked_for(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        await engine.create_network(NetworkRequest(name="back", subnets=["10.30.0.0/24"]))
        asked = NetworkAttachment(network="web", ip="10.20.0.9", mac="02:00:00:00:00:09")
        shop = await engine.create_sandbox(
            SandboxRequest(name="shop", networks=[asked, "back"], ports=["8080:80"])
        )
        released = await engine.release_sandbox("shop")
        assert [(e.ipv4, e.mac) for e in released.endpoints] == [
            ("10.20.0.9/24", "02:00:00:00:00:09"),
            (None, None),
        ]
        assert host.pairs() == set()
        taken = await engine.create_sandbox(SandboxRequest(networks=["back"], ports=["8081:80"]))
        restored = await engine.restore_sandbox("shop")
        assert (restored.id, restored.state, restored.ports) == (shop.id, "up", shop.ports)
        assert restored.endpoints[0].ipv4 == "10.20.0.9/24"
        assert restored.endpoints[1].ipv4 != taken.endpoints[0].ipv4
        with pytest.raises(Conflict):
            await engine.restore_sandbox("shop")

    play(tmp_path, talk)


def test_a_restoration_that_crashed_keeps_the_record(tmp_path: Path) -> None:
    async def make(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        shop = await engine.create_sandbox(SHOP)
        half = msgspec.structs.replace(shop, state="allocated")
        await engine._core.save(write_sandbox(half, shop))

    async def look(engine: Engine, host: ModelHost) -> None:
        assert engine.sandbox("shop").state == "exited"
        assert host.pairs() == set()
        assert (await engine.restore_sandbox("shop")).state == "up"

    play(tmp_path, look, play(tmp_path, make))


def test_neighbours_are_told_only_of_an_address_with_another_mac(tmp_path: Path) -> None:
    def asked(mac: str | None = None) -> SandboxRequest:
        attachment = NetworkAttachment(network="web", ip="10.20.0.9", mac=mac)
        return SandboxRequest(name="shop", networks=[attachment])

    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        for mac, told in ((None, 0), (None, 0), ("02:00:00:00:00:09", 1), (None, 2), (None, 2)):
            await engine.create_sandbox(asked(mac))
            await engine.remove_sandbox("shop")
            await engine._core.settle()
            assert len(host.announced) == told

    play(tmp_path, talk)


def test_flows_of_udp_ports_and_of_released_addresses_are_forgotten(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        ports = ["8080:80", "9000:9000/udp"]
        await engine.create_sandbox(SandboxRequest(name="shop", networks=["web"], ports=ports))
        assert host.flushed == ["9000/udp"]
        await engine.connect("shop", NetworkAttachment(network="bridge", gateway_priority=1))
        assert host.flushed == ["9000/udp"] * 2
        await engine.remove_sandbox("shop")
        await engine._core.settle()
        assert host.flushed[2:] == ["10.20.0.2", "172.20.0.2"]

    play(tmp_path, talk)


def test_a_listening_process_is_named(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        host.listening = [
            HostSocket(protocol="tcp", address="0.0.0.0", port=8080, process="nginx", pid=5)
        ]
        with pytest.raises(PortInUse, match="nginx"):
            await engine.create_sandbox(SandboxRequest(ports=["8080:80"]))
        assert (await engine.create_sandbox(SandboxRequest(ports=["8080:80/udp"]))).ports

    play(tmp_path, talk)


def test_uplinks_forward_for_us_only_and_are_given_back(tmp_path: Path) -> None:
    path = "ipv4/conf/eth0/forwarding"

    def forwarding(host: ModelHost) -> str:
        return host.read_settings([path])[path]

    async def talk(engine: Engine, host: ModelHost) -> None:
        assert forwarding(host) == "1"
        assert host.elements("uplinks") == {("eth0",)}
        host.plane = host.plane.with_object(Sysctl(path="ipv4/ip_forward", value="1"))
        await engine.reconcile()
        assert forwarding(host) == "1"
        assert host.elements("uplinks") == set()
        host.plane = host.plane.with_object(Sysctl(path="ipv4/ip_forward", value="0"))
        host.plane = host.plane.with_object(Sysctl(path=path, value="0"))
        await engine.reconcile()
        assert host.elements("uplinks") == {("eth0",)}
        await engine.purge()
        assert forwarding(host) == "0"
        assert host.bridges() == set()
        assert [i for i in host.plane if i.namespace == HOST and "linkspan" in str(i)] == []

    play(tmp_path, talk)


def test_refused_by_name(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(WEB)
        shop = await engine.create_sandbox(SHOP)
        for work, error, says in (
            (engine.create_sandbox(SandboxRequest(networks=["nowhere"])), NotFound, "nowhere"),
            (engine.create_sandbox(SandboxRequest(name="-x")), InvalidRequest, "-x"),
            (engine.create_sandbox(SandboxRequest(hostname="a b")), InvalidRequest, "a b"),
            (engine.connect("shop", "web"), Conflict, "already"),
            (engine.connect("shop", "none"), InvalidRequest, "no interface"),
            (engine.disconnect("shop", "bridge"), NotFound, "bridge"),
            (engine.remove_network("bridge"), NetworkInUse, "always"),
            (
                engine.create_network(NetworkRequest(name="x1", subnets=["10.20.0.0/25"])),
                AddressInUse,
                "web",
            ),
            (
                engine.create_network(NetworkRequest(name="x1", subnets=["192.0.2.0/24"])),
                AddressInUse,
                "eth0",
            ),
            (
                engine.create_network(NetworkRequest(name="x1", driver="magic")),
                InvalidRequest,
                "magic",
            ),
            (engine.create_network(NetworkRequest(name="x1", driver="host")), Conflict, "host"),
        ):
            with pytest.raises(error, match=says):
                await work
        assert engine.sandbox(shop.id[:8]) == shop

    play(tmp_path, talk)
