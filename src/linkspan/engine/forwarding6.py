"""Which interfaces must forward IPv6 for our networks, and what that needs. Pure.

Linux 6.17 can switch IPv6 forwarding on for single interfaces (force_forwarding), which
leaves an interface a host otherwise: it goes on taking router advertisements. Older kernels
forward on all interfaces or none (all.forwarding), and an interface that forwards ignores
router advertisements unless its accept_ra is 2. There every interface that takes them gets
that, before forwarding is switched on.

What is changed is remembered in the store with its value before, and given back when the last
network with IPv6 has gone. A host that forwards IPv6 anyway is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from linkspan.dataplane import Add, Change, DataPlane, Element, Operation, Remove, Replace, Sysctl
from linkspan.drivers.firewall import inet

ALL, DEFAULT = "ipv6/conf/all/forwarding", "ipv6/conf/default/forwarding"
GUARDS = ("uplinks6", "host_only")
"""Sets of what is forwarded for our networks only: interfaces, or a whole IP version."""
_OURS = {"force_forwarding": "1", "forwarding": "1", "accept_ra": "2"}
"""What we set, by the last part of a path."""


class Forwarding6(msgspec.Struct, frozen=True):
    """What IPv6 forwarding needs: guards in the firewall, the change that gets there, and the
    settings to remember: values before, by path.
    """

    guards: DataPlane
    change: Change
    remembered: dict[str, str]


def force(interface: str) -> str:
    """The setting that makes one interface forward IPv6."""
    return f"ipv6/conf/{interface}/force_forwarding"


def accept(interface: str) -> str:
    """The setting that says whether an interface takes router advertisements."""
    return f"ipv6/conf/{interface}/accept_ra"


def settings_needed(interfaces: Collection[str], remembered: Collection[str]) -> list[str]:
    """Which settings `plan_forwarding6` must know."""
    own = [path(name) for name in interfaces for path in (force, accept)]
    return list(dict.fromkeys([ALL, DEFAULT, force("all"), *own, *remembered]))


def plan_forwarding6(
    bridges: Collection[str],
    uplinks: Collection[str],
    others: Collection[str],
    *,
    settings: Mapping[str, str],
    guards: Collection[Element],
    remembered: Mapping[str, str],
) -> Forwarding6:
    """What is needed so that packets pass between `bridges` of ours and the host's `uplinks`.

    `others` are all interfaces of the host but ours, `settings` what `settings_needed` names
    as far as it exists, `guards` the elements of GUARDS that are there.
    """
    is_router = settings.get(ALL) == "1" and ALL not in remembered
    if not bridges or is_router:
        wanted: dict[str, str] = {}
        elements: list[Element] = []
    elif force("all") in settings:
        wanted, elements = _one_by_one(bridges, uplinks, settings, remembered)
    else:
        wanted, elements = _all_at_once(others, settings, remembered)
    # A guard is there before anything is forwarded, and until nothing is any more.
    operations: list[Operation] = [Add(e) for e in elements if e not in guards]
    operations += _set(wanted, settings)
    given_back = {path: old for path, old in remembered.items() if path not in wanted}
    if is_router:
        given_back.pop(ALL, None)
    operations += _give_back(given_back, settings)
    operations += [Remove(e) for e in guards if e not in elements]
    kept = {path: remembered.get(path, settings[path]) for path in wanted if path in settings}
    for path in (DEFAULT, *map(force, bridges)):
        kept.pop(path, None)
    return Forwarding6(DataPlane(elements), tuple(operations), kept)


def _one_by_one(
    bridges: Collection[str],
    uplinks: Collection[str],
    settings: Mapping[str, str],
    remembered: Mapping[str, str],
) -> tuple[dict[str, str], list[Element]]:
    ours = [
        name
        for name in sorted(uplinks)
        # One that forwards without having been asked by us does so by somebody else's will.
        if force(name) in remembered or settings.get(force(name)) == "0"
    ]
    wanted = {force(name): "1" for name in (*ours, *sorted(bridges))}
    return wanted, [inet("uplinks6", name) for name in ours]


def _all_at_once(
    others: Collection[str], settings: Mapping[str, str], remembered: Mapping[str, str]
) -> tuple[dict[str, str], list[Element]]:
    wanted = {
        accept(name): "2"
        for name in sorted(others)
        if accept(name) in remembered or settings.get(accept(name)) == "1"
    }
    # An interface that appears later shall still be a host until it is looked at.
    return wanted | {ALL: "1", DEFAULT: settings.get(DEFAULT, "0")}, [inet("host_only", "ipv6")]


def _set(wanted: Mapping[str, str], settings: Mapping[str, str]) -> Iterator[Operation]:
    for path, value in wanted.items():
        have = settings.get(path)
        if have is None:
            continue
        # Switching ALL writes DEFAULT as well: put it back right behind.
        disturbed = path == DEFAULT and wanted.get(ALL) != settings.get(ALL)
        if have != value or disturbed:
            yield Replace(Sysctl(path=path, value=have), Sysctl(path=path, value=value))


def _give_back(remembered: Mapping[str, str], settings: Mapping[str, str]) -> Iterator[Operation]:
    # Forwarding first: while it is on, accept_ra must stay as it is.
    for path in sorted(remembered, key=lambda path: path != ALL):
        value, have = remembered[path], settings.get(path)
        if have == _OURS.get(path.rpartition("/")[2]) and have != value:
            assert have is not None
            yield Replace(Sysctl(path=path, value=have), Sysctl(path=path, value=value))


def give_back_all(
    remembered: Mapping[str, str], settings: Mapping[str, str], guards: Collection[Element]
) -> Change:
    """The change that leaves nothing of ours: no network needs IPv6 any more."""
    return plan_forwarding6(
        (), (), (), settings=settings, guards=guards, remembered=remembered
    ).change
