"""What a plan says would be there is what is there when the commands have been carried out."""

from __future__ import annotations

import shlex

import msgspec
import pytest

from lab import Lab
from lab.site import Site
from linkspan.cli.client import Client
from linkspan.cli.planning import apply_plans
from linkspan.cli.records import read_stored
from linkspan.dataplane import (
    Address,
    Bridge,
    DataPlane,
    FdbEntry,
    Link,
    Listener,
    Namespace,
    Neighbour,
    Object,
    PacketSocket,
    Route,
    Rule,
    Table,
    Veth,
)
from linkspan.inventory.records import HostView
from linkspan.kernel import namespaces
from linkspan.kernel.observe import observe


@pytest.fixture
def site(lab: Lab) -> Site:
    made = Site(lab)
    made.network("web", "10.20.0.0/24")
    made.sandbox("shop", {"network": "web"}, ports=("8080:80",))
    made.sandbox("db", {"network": "web"})
    return made


def look(site: Site) -> HostView:
    client = Client(str(site.daemon.socket))
    paths: dict[str, str | None] = {"host": None}
    paths |= {row["name"]: row["netns"] for row in client.get("sandboxes")}
    with namespaces.opened(site.host.path) as descriptor, namespaces.entered(descriptor):
        plane = observe(paths)
    return HostView(plane=plane, paths=paths, stored=read_stored(client))


STEPS = (
    ("network create back --subnet 10.30.0.0/24 --internal",),
    ("network connect back db", "policy set no-routing"),
    ("policy unset no-routing",),
    ("network create six --subnet 10.31.0.0/24 --subnet fd12::/64",
     "attach --name late --network six -p 8081:81"),
    ("publish db 9000:5432 127.0.0.1:9001:5433/udp 9100-9109:9100-9109", "unpublish shop 8080"),
    ("network disconnect web db",),
    ("detach late", "network rm six"),
    ("detach shop", "detach db", "network rm web"),
)  # fmt: skip


def test_a_plan_of_nothing_changes_nothing(site: Site):
    before = look(site)
    after = apply_plans(before, ())
    assert list_differences(before, after) == []
    assert after.containers == before.containers


def test_what_is_planned_is_what_comes(site: Site):
    before = look(site)
    for commands in STEPS:
        planned = apply_plans(before, commands)
        for command in commands:
            site.daemon.cli(*shlex.split(command))
        done = look(site)
        assert list_differences(before, done), f"{commands} changed nothing"
        wrong = list_differences(planned, done)
        assert not wrong, f"{commands}: {wrong}"
        before = done


def list_differences(one: HostView, other: HostView) -> list[str]:
    """What is in one plane and not in the other, apart from what a plan cannot know: numbers
    of links, MACs that nobody chose, learnt entries, sockets, and ids.
    """
    first, second = (set(map(str, comparable(view.plane))) for view in (one, other))
    return sorted(
        [f"only in the first: {text}" for text in first - second]
        + [f"only in the second: {text}" for text in second - first]
    )


def comparable(plane: DataPlane) -> list[Object]:
    names = stable_names(plane)

    def renamed(text: str) -> str:
        for old, new in names.items():
            text = text.replace(old, new)
        return text

    found: list[Object] = []
    for item in plane:
        if isinstance(item, (Neighbour, FdbEntry, Listener, PacketSocket, Table)):
            continue
        if isinstance(item, Namespace):
            item = Namespace(namespace=item.namespace)
        if isinstance(item, Link):
            item = Link(
                namespace=item.namespace, name=item.name, kind=stable_kind(item), mtu=item.mtu,
                up=item.up, master=item.master or "",
                mac=item.mac if item.namespace != "host" else None,
            )  # fmt: skip
        if isinstance(item, Address):
            if item.namespace == "host" and item.address.startswith("fe80:"):
                continue  # made from an id
            item = Address(namespace=item.namespace, link=item.link, address=item.address)
        if isinstance(item, Rule):
            if item.priority in (0, 32766, 32767):
                continue
            item = msgspec.structs.replace(item, protocol=None)
        if isinstance(item, Route):
            # Link-local addresses are tried for a moment first; a stand-in's metric is an id.
            if item.type in ("anycast", "multicast") or item.destination.startswith("fe80:"):
                continue
            if item.destination == "100::6c/128":
                item = msgspec.structs.replace(item, metric=0)
            item = Route(
                namespace=item.namespace, destination=item.destination, link=item.link,
                gateway=item.gateway, table=item.table, type=item.type, metric=item.metric,
            )  # fmt: skip
        found.append(
            msgspec.json.decode(renamed(msgspec.json.encode(item).decode()), type=type(item))
        )
    return found


def stable_kind(link: Link) -> object:
    match link.kind:
        case Veth(peer_name=name, peer_namespace=namespace):
            return Veth(peer_name=name, peer_namespace=namespace)
        case Bridge():
            return Bridge()
    return link.kind


def stable_names(plane: DataPlane) -> dict[str, str]:
    """Names with ids in them, as what they stand for: the network's subnet, the far end."""
    found = {}
    addresses = {
        item.link: item.address
        for item in plane.of(Address)
        if item.namespace == "host" and ":" not in item.address
    }
    for link in plane.of(Link):
        if link.namespace == "host" and isinstance(link.kind, Bridge):
            found[link.name] = f"bridge of {addresses.get(link.name)}"
        elif isinstance(link.kind, Veth) and link.name.startswith("lsv"):
            found[link.name] = f"port of {link.kind.peer_namespace} {link.kind.peer_name}"
        elif isinstance(link.kind, Veth) and (link.kind.peer_name or "").startswith("lsv"):
            found[str(link.kind.peer_name)] = f"port of {link.namespace} {link.name}"
    return found
