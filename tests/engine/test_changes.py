"""Changes for whole pieces: removed in full, repaired no more than needed."""

from __future__ import annotations

import msgspec
import pytest

from linkspan.dataplane import (
    HOST,
    Add,
    Address,
    DataPlane,
    Link,
    Loopback,
    Namespace,
    Object,
    Remove,
    Replace,
    Route,
    Veth,
    apply_to,
)
from linkspan.engine.changes import creation, far_end, removal, repair

PAIR = Link(
    name="lsv0",
    kind=Veth(peer_name="eth0", peer_namespace="s", peer_mac="02:00:00:00:00:01", peer_up=True),
    up=True,
    alias="linkspan:endpoint:0",
)
PIECE = DataPlane(
    (
        Namespace(namespace="s", path="/run/s"),
        Link(namespace="s", name="lo", kind=Loopback(), up=True),
        PAIR,
        Address(namespace="s", link="eth0", address="10.0.0.2/24"),
        Route(namespace="s", destination="0.0.0.0/0", gateway="10.0.0.1", link="eth0"),
    )
)


def as_seen(*changed: Object, without: tuple[Object, ...] = ()) -> DataPlane:
    """The piece as a kernel shows it: two ends, each with what it has."""
    far = far_end(PAIR)
    assert far is not None
    assert isinstance(PAIR.kind, Veth)
    near = msgspec.structs.replace(
        PAIR, kind=Veth(peer_name="eth0", peer_namespace="s", peer_index=2), index=7
    )
    seen = {item.key: item for item in (*PIECE, near, far, *changed)}
    for item in without:
        del seen[item.key]
    return DataPlane(seen.values())


def test_what_is_made_is_taken_away_again() -> None:
    made = apply_to(DataPlane(), creation(PIECE))
    assert made == PIECE
    assert len(apply_to(made, removal(PIECE))) == 0


def test_a_hosts_link_is_removed_by_name_and_before_its_namespace() -> None:
    removed = [op.object for op in removal(PIECE) if isinstance(op, Remove)]
    assert removed == [PAIR, Namespace(namespace="s", path="/run/s")]


def test_in_a_namespace_that_stays_loopback_stays() -> None:
    foreign = DataPlane(item for item in PIECE if not isinstance(item, Namespace))
    assert removal(foreign) == (Remove(PAIR),)


def test_nothing_is_repaired_where_all_is_well() -> None:
    extra = Address(namespace="s", link="eth0", address="203.0.113.1/32")
    assert repair(as_seen(extra), PIECE) == ()


def test_what_is_missing_inside_is_added() -> None:
    route = next(PIECE.of(Route))
    assert repair(as_seen(without=(route,)), PIECE) == (Add(route),)


@pytest.mark.parametrize("field", [{"up": False}, {"mac": "02:00:00:00:00:99"}])
def test_the_other_end_is_set_right_in_place(field: dict[str, object]) -> None:
    far = far_end(PAIR)
    assert far is not None
    seen = msgspec.structs.replace(far, **field)
    assert repair(as_seen(seen), PIECE) == (Replace(seen, far),)


def test_a_missing_pair_is_made_with_all_that_its_other_end_has() -> None:
    far = far_end(PAIR)
    assert far is not None
    inside = [item for item in PIECE if isinstance(item, (Address, Route))]
    assert repair(as_seen(without=(PAIR, far, *inside)), PIECE) == (
        Add(PAIR),
        *(Add(item) for item in inside),
    )


def test_an_end_that_was_moved_elsewhere_is_made_anew() -> None:
    moved = msgspec.structs.replace(PAIR, kind=Veth(peer_name="eth9", peer_namespace=None))
    far = far_end(PAIR)
    assert far is not None
    change = repair(as_seen(moved, without=(far,)), PIECE)
    assert Remove(moved) in change
    assert Add(PAIR) in change
    assert all(op.object.namespace in (HOST, "s") for op in change if isinstance(op, Add))
