"""What strangers reach on one side of a change and not on the other, with any source address."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from linkspan.analysis.exposed import find_exposed
from linkspan.analysis.exposures import Addresses, Exposure
from linkspan.analysis.view import View
from linkspan.errors import NotFound


class ExposureChange(msgspec.Struct, frozen=True, kw_only=True):
    """A socket, or what is asked for it from outside, that strangers reach otherwise than before.

    `before` and `after` say from where, as text ("anywhere", "10.0.0.0/8", "anywhere but ..."),
    "" for from nowhere; of addresses that can only be pretended they say that. `opened_by` is
    who opened the way, on the side where there is one.
    """

    action: str
    segment: str
    protocol: str
    addresses: tuple[str, ...]
    ports: tuple[tuple[int, int], ...]
    namespace: str
    own_address: str
    own_ports: tuple[tuple[int, int], ...]
    before: str
    after: str
    opened_by: str


class ExposureChanges(NamedTuple):
    """The changes, and what could not be compared."""

    changes: tuple[ExposureChange, ...]
    notes: tuple[str, ...]


def find_exposure_changes(before: View, after: View) -> ExposureChanges:
    """Compare what strangers reach; a host that nothing leads to from outside exposes nothing."""
    notes: list[str] = []
    old, new = (_by_address(view, notes) for view in (before, after))
    # Address by address, since a longer list is no other way; what changed alike is one again.
    alike: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    shown: dict[tuple[object, ...], Exposure] = {}
    for key in dict.fromkeys((*old, *new)):
        one, other = old.get(key, ()), new.get(key, ())
        was, now = _sources(one), _sources(other)
        if was == now:
            continue
        same = (*key[:-1], was, now)
        alike[same].append(str(key[-1]))
        shown.setdefault(same, (other or one)[0])
    found = []
    for same, addresses in alike.items():
        was, now, first = str(same[-2]), str(same[-1]), shown[same]
        found.append(
            ExposureChange(
                action="added" if not was else "removed" if not now else "changed",
                segment=first.segment,
                protocol=first.protocol,
                addresses=tuple(addresses),
                ports=first.ports,
                namespace=first.namespace,
                own_address=first.own_address,
                own_ports=first.own_ports,
                before=was,
                after=now,
                opened_by=first.opened_by,
            )
        )
    return ExposureChanges(tuple(found), tuple(dict.fromkeys(notes)))


def _by_address(view: View, notes: list[str]) -> dict[tuple[object, ...], tuple[Exposure, ...]]:
    try:
        exposed = find_exposed(view)
    except NotFound:
        return {}
    notes += (f"not compared from outside: {rest}" for rest in exposed.rest)
    found: defaultdict[tuple[object, ...], list[Exposure]] = defaultdict(list)
    for one in exposed.exposures:
        socket = (
            one.segment, one.version, one.protocol, one.namespace, one.own_address, one.own_ports,
            one.ports,
        )  # fmt: skip
        for address in one.addresses:
            found[(*socket, address)].append(one)
    return {key: tuple(held) for key, held in found.items()}


def _sources(exposures: Iterable[Exposure]) -> str:
    """From where a socket is reached, in words."""
    texts: list[str] = []
    for one in exposures:
        if not _is_none(one.sources):
            texts.append(str(one.sources))
        if not _is_none(one.pretended):
            texts.append(f"pretending to be {one.pretended}")
    return "; ".join(sorted(set(texts)))


def _is_none(addresses: Addresses) -> bool:
    return addresses.kind == "only" and not addresses.ranges
