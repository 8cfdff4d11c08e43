"""What is stored of a container, beside its sandbox's record."""

from __future__ import annotations

import msgspec

from linkspan.engine.containers.restarts import parse_restart
from linkspan.engine.events import EventLog, Happening
from linkspan.engine.requests import ContainerRequest
from linkspan.engine.runtime.spec import ContainerSpec, check_spec
from linkspan.engine.store import Store
from linkspan.errors import InvalidRequest

PREFIX = "containers/"


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A container as it is stored; its id is its sandbox's.

    `status` is creating (its request has not returned), created (made, its program waits for
    start), running, restarting (ended, begins again soon), exited, or removing. `stopped` says
    that its end was asked for. Times are in seconds since 1970. `error` is why it could not
    begin the last time.
    """

    id: str
    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = "/"
    rootfs: str | None = None
    tty: bool = False
    interactive: bool = False
    privileged: bool = False
    restart: str = "no"
    remove: bool = False
    status: str = "creating"
    stopped: bool = False
    pid: int | None = None
    exit_code: int | None = None
    started: float | None = None
    finished: float | None = None
    restart_count: int = 0
    error: str = ""

    @property
    def is_live(self) -> bool:
        """Whether it runs or will, without being asked."""
        return self.status in ("running", "restarting")


def draft_record(id: str, request: ContainerRequest) -> ContainerRecord:
    """The record of a container that is asked for.

    Raises:
        InvalidRequest: the request could not be run on any host; names the field.
    """
    policy = parse_restart(request.restart)
    if request.remove and policy.name != "no":
        raise InvalidRequest(
            f"restart policy {request.restart} and removal at the end exclude each other; "
            "leave one of them out"
        )
    record = ContainerRecord(
        id=id,
        command=tuple(request.command),
        env=tuple(request.env),
        user=request.user or "",
        workdir=request.workdir or "/",
        rootfs=request.rootfs,
        tty=request.tty,
        interactive=request.interactive,
        privileged=request.privileged,
        restart=request.restart,
        remove=request.remove,
    )
    check_spec(compose_spec(record, name=request.name or "", hostname=request.hostname or ""))
    return record


def compose_spec(
    record: ContainerRecord,
    *,
    name: str,
    hostname: str,
    netns: str | None = None,
    hosts: str = "",
    resolv_conf: str | None = None,
) -> ContainerSpec:
    """What the runtime is told about a container."""
    return ContainerSpec(
        id=record.id,
        name=name,
        hostname=hostname,
        command=record.command,
        env=record.env,
        user=record.user,
        workdir=record.workdir,
        rootfs=record.rootfs,
        tty=record.tty,
        interactive=record.interactive,
        privileged=record.privileged,
        netns=netns,
        hosts=hosts,
        resolv_conf=resolv_conf,
    )


class Records:
    """The records of all containers: in memory, and in the store before that."""

    def __init__(self, store: Store, events: EventLog) -> None:
        self._store = store
        self._events = events
        self.by_id: dict[str, ContainerRecord] = {}

    async def load(self) -> None:
        """Read what is stored. Raises StorageFailed."""
        for entry in await self._store.list(PREFIX):
            record = msgspec.json.decode(entry.value, type=ContainerRecord)
            self.by_id[record.id] = record

    async def save(
        self, record: ContainerRecord, action: str = "", name: str = "", **attributes: str
    ) -> ContainerRecord:
        """Store a record, and say what happened to it in the same transaction.

        Raises:
            StorageFailed: neither was done.
        """
        await self._events.commit(
            self._happenings(action, name, record.id, attributes),
            puts={PREFIX + record.id: msgspec.json.encode(record)},
        )
        self.by_id[record.id] = record
        return record

    async def drop(self, id: str, action: str = "", name: str = "") -> None:
        """Forget a container. Raises StorageFailed."""
        await self._events.commit(self._happenings(action, name, id, {}), deletes=[PREFIX + id])
        self.by_id.pop(id, None)

    @staticmethod
    def _happenings(action: str, name: str, id: str, attributes: dict[str, str]) -> list[Happening]:
        if not action:
            return []
        return [
            Happening(
                type="container", action=action, name=name, object_id=id, attributes=attributes
            )
        ]
