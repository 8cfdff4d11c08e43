"""Our events in Docker's words: one of ours may be several of Docker's, or none. No I/O.

Docker's messages about networks name the network by id, ours name the sandbox and the
network's name. So what is known of both is followed along the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from linkspan.api.docker.times import show_nanoseconds
from linkspan.drivers.records import Network, Sandbox
from linkspan.engine.events import Event

ACTIONS = {
    "create": "create",
    "start": "start",
    "restart": "restart",
    "stop": "stop",
    "kill": "kill",
    "die": "die",
    "remove": "destroy",
}
"""Docker's words for what happens to a container that we run."""

ATTRIBUTES = {"exit_code": "exitCode"}
"""Attributes that Docker spells otherwise."""


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """What it happened to."""

    id: str = msgspec.field(name="ID")
    attributes: dict[str, str] = msgspec.field(name="Attributes")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. `status`, `id` and `source` are there for containers up to 1.51."""

    status: str | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET
    source: str | msgspec.UnsetType = msgspec.field(name="from", default=msgspec.UNSET)
    type: str = msgspec.field(name="Type")
    action: str = msgspec.field(name="Action")
    actor: Actor = msgspec.field(name="Actor")
    scope: str = "local"
    time: int
    time_nano: int = msgspec.field(name="timeNano")


class Translator:
    """Turns events into messages, in the order in which they happened.

    It begins with what exists now; events that were before are read all the same. `ours` are
    the ids of sandboxes whose containers we run: Docker's create and start for these come from
    the container's own events.
    """

    def __init__(
        self,
        networks: Iterable[Network],
        sandboxes: Iterable[Sandbox],
        ours: Iterable[str],
        legacy: bool,
    ) -> None:
        self._ids = {network.name: network.id for network in networks}
        self._drivers = {network.name: network.driver for network in networks}
        names = {network.id: network.name for network in networks}
        self._labels: dict[str, dict[str, str]] = {}
        self._joined: dict[str, list[str]] = {}
        for sandbox in sandboxes:
            self._labels[sandbox.id] = dict(sandbox.labels)
            self._joined[sandbox.id] = [names.get(e.network, "") for e in sandbox.endpoints]
        self._ours = set(ours)
        self._legacy = legacy

    def translate(self, event: Event) -> Iterator[Message]:
        """Docker's messages for an event."""
        if event.type == "network":
            yield from self._network(event)
        elif event.type == "sandbox":
            yield from self._sandbox(event)
        elif event.type == "container" and event.action in ACTIONS:
            self._ours.add(event.object_id)
            yield self._container(event, ACTIONS[event.action])

    def note_labels(self, sandbox: Sandbox) -> None:
        """Take in the labels of a sandbox that came later; Docker's messages carry them."""
        self._labels[sandbox.id] = dict(sandbox.labels)

    def knows(self, sandbox_id: str) -> bool:
        """Whether the labels of a sandbox are known."""
        return sandbox_id in self._labels

    def _network(self, event: Event) -> Iterator[Message]:
        self._ids[event.name] = event.object_id
        self._drivers[event.name] = event.attributes.get("driver", "")
        action = {"created": "create", "removed": "destroy"}.get(event.action)
        if action is not None:
            yield self._about_network(event, action, event.name)

    def _sandbox(self, event: Event) -> Iterator[Message]:
        sandbox, joined = event.object_id, self._joined.setdefault(event.object_id, [])
        attached = event.object_id not in self._ours
        network = event.attributes.get("network", "")
        if event.action == "attached":
            joined[:] = event.attributes.get("networks", "").split()
            if attached:
                yield self._container(event, "create")
            for name in joined:
                yield self._about_network(event, "connect", name, sandbox)
            if attached:
                yield self._container(event, "start")
        elif event.action == "connected":
            joined.append(network)
            yield self._about_network(event, "connect", network, sandbox)
        elif event.action == "disconnected":
            joined[:] = [name for name in joined if name != network]
            yield self._about_network(event, "disconnect", network, sandbox)
        elif event.action in ("exited", "gone", "detached"):
            for name in joined:
                yield self._about_network(event, "disconnect", name, sandbox)
            joined.clear()
            if attached:
                yield self._container(event, "destroy" if event.action == "detached" else "die")

    def _about_network(
        self, event: Event, action: str, name: str, sandbox: str | None = None
    ) -> Message:
        attributes = {"name": name, "type": self._drivers.get(name, "")}
        if sandbox is not None:
            attributes["container"] = sandbox
        return _compose(event, "network", action, self._ids.get(name, ""), attributes)

    def _container(self, event: Event, action: str) -> Message:
        attributes = dict(self._labels.get(event.object_id, {}))
        for name, text in event.attributes.items():
            if event.type == "container":
                attributes[ATTRIBUTES.get(name, name)] = text
        attributes |= {"image": "", "name": event.name}
        message = _compose(event, "container", action, event.object_id, attributes)
        if not self._legacy:
            return message
        return msgspec.structs.replace(message, status=action, id=event.object_id, source="")


def _compose(
    event: Event, type: str, action: str, identity: str, attributes: dict[str, str]
) -> Message:
    return Message(
        type=type,
        action=action,
        actor=Actor(id=identity, attributes=attributes),
        time=int(event.time),
        time_nano=show_nanoseconds(event.time),
    )
