"""Strategies for data planes that a kernel could hold, made of few names so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from linkspan.dataplane import (
    HOST,
    Address,
    Bridge,
    BridgePort,
    DataPlane,
    Element,
    FdbEntry,
    Link,
    Macvlan,
    Namespace,
    Neighbour,
    Object,
    Route,
    Rule,
    SetDefinition,
    Sysctl,
    Table,
    Veth,
)

INSIDE = ("blue", "red")
NAMES = ("l0", "l1", "l2", "l3")
BRIDGES = ("br0", "br1")
ADDRESSES = ("10.0.0.1/24", "10.0.0.2/24", "fd00::1/64")
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
SETS = (SetDefinition(name="ports", key=("inet_service",), data=("ipv4_addr",)),)

maybe = st.sampled_from((None, False, True))
mtus = st.sampled_from((None, 1400, 1500))
macs = st.sampled_from((None, *MACS))


@st.composite
def planes(draw: st.DrawFn) -> DataPlane:
    """A consistent plane: every object's carriers are there, a veth pair is stated once."""
    inside = draw(st.sets(st.sampled_from(INSIDE)))
    objects: list[Object] = [
        Namespace(namespace=name, inode=draw(st.sampled_from((None, 1, 2)))) for name in inside
    ]
    places = [HOST, *sorted(inside)]
    ends: dict[str, list[str]] = {place: [] for place in places}
    for place in places:
        objects += draw(tables(place))
        bridges = draw(st.sets(st.sampled_from(BRIDGES)))
        for name in sorted(bridges):
            objects.append(_link(draw, place, name, Bridge(stp=draw(maybe)), ""))
            ends[place].append(name)
        for name in draw(st.sets(st.sampled_from(NAMES), max_size=3)):
            if name in ends[place]:
                continue
            master = draw(st.sampled_from(["", *sorted(bridges)]))
            far = draw(st.sampled_from(places))
            peer = f"p-{place}-{name}"
            kind: Veth | Macvlan
            if bridges and draw(st.booleans()):
                kind = Macvlan(
                    parent=draw(st.sampled_from(sorted(bridges))),
                    mode=draw(st.sampled_from((None, "bridge", "vepa"))),
                )
            else:
                kind = Veth(
                    peer_name=peer, peer_namespace=far, peer_mtu=draw(mtus), peer_up=draw(maybe)
                )
                ends[far].append(peer)
            objects.append(_link(draw, place, name, kind, master))
            ends[place].append(name)
    for place in places:
        if ends[place]:
            objects += draw(things_on_links(place, sorted(ends[place])))
        objects += draw(
            st.lists(
                st.builds(
                    Rule,
                    namespace=st.just(place),
                    priority=st.integers(1, 2),
                    table=st.integers(1, 2),
                    protocol=st.sampled_from((None, 3, 4)),
                ),
                unique_by=lambda rule: rule.key,
                max_size=2,
            )
        )
    return DataPlane(objects)


def _link(
    draw: st.DrawFn, place: str, name: str, kind: Bridge | Veth | Macvlan, master: str
) -> Link:
    return Link(
        namespace=place,
        name=name,
        kind=kind,
        mac=draw(macs),
        mtu=draw(mtus),
        up=draw(maybe),
        master=master,
        alias=draw(st.sampled_from((None, "linkspan:network:1", "linkspan:network:2"))),
        port=BridgePort(hairpin=draw(maybe)) if master else None,
    )


@st.composite
def tables(draw: st.DrawFn, place: str) -> list[Object]:
    """A firewall table, perhaps, with elements."""
    if draw(st.booleans()):
        return []
    flags = draw(st.sampled_from(((), ("owner",))))
    ports = draw(st.sets(st.integers(80, 82)))
    return [
        Table(namespace=place, family="inet", name="linkspan", sets=SETS, flags=flags),
        *(
            Element(
                namespace=place,
                table="linkspan",
                set="ports",
                first=(port,),
                data=draw(st.sampled_from((("10.0.0.1",), ("10.0.0.2",)))),
            )
            for port in sorted(ports)
        ),
    ]


@st.composite
def things_on_links(draw: st.DrawFn, place: str, links: list[str]) -> list[Object]:
    """Addresses, routes, neighbours, forwarding entries and settings of links."""
    link = st.sampled_from(links)
    here = st.just(place)
    strategy = st.one_of(
        st.builds(
            Address,
            namespace=here,
            link=link,
            address=st.sampled_from(ADDRESSES),
            scope=st.sampled_from((None, "global", "link")),
        ),
        st.builds(
            Route,
            namespace=here,
            link=link,
            destination=st.sampled_from(("0.0.0.0/0", "10.1.0.0/16", "::/0")),
            gateway=st.sampled_from((None, "10.0.0.9")),
            table=st.sampled_from((254, 1000)),
            mtu=mtus,
        ),
        st.builds(Neighbour, namespace=here, link=link, address=st.just("10.0.0.3"), mac=macs),
        st.builds(
            FdbEntry, namespace=here, link=link, mac=st.sampled_from(MACS), own=st.booleans()
        ),
        st.builds(
            lambda namespace, link, value: Sysctl(
                namespace=namespace, path=f"ipv4/conf/{link}/forwarding", value=value
            ),
            here,
            link,
            st.sampled_from(("0", "1")),
        ),
    )
    return draw(st.lists(strategy, unique_by=lambda item: item.key, max_size=6))
