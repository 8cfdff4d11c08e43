"""Entries of neighbour and forwarding tables: which of them make a difference.

An entry that says what asking, or looking behind the ports, would give as well is no fact that
tells namespaces apart: whether somebody was talked to lately is chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from linkspan.analysis.addresses import is_loopback, to_number, version_of
from linkspan.analysis.neighbours import ask_alone
from linkspan.analysis.symmetry_names import Names
from linkspan.analysis.symmetry_terms import Mine
from linkspan.dataplane.links import Veth
from linkspan.dataplane.objects import FdbEntry, Neighbour

_FIXED = frozenset(("permanent", "noarp"))
_USABLE = frozenset(("reachable", "stale", "delay", "probe"))
_MOST_SOURCES = 64
"""Addresses of the asker that are tried; one with more keeps its entries as facts."""


def find_entry_facts(
    names: Names, entries: Iterable[FdbEntry | Neighbour], kinds: dict[str, int]
) -> list[Any]:
    """The facts in entries that matter. `kinds` are those without any entries."""
    entries = list(entries)
    neighbours = [entry for entry in entries if isinstance(entry, Neighbour)]
    told = {entry.mac for entry in neighbours if entry.mac and _is_of_interest(names, entry)}
    facts = list(_neighbour_facts(names, neighbours, kinds))
    for entry in entries:
        if isinstance(entry, FdbEntry) and _decides(names, entry, told):
            facts.append((
                "fdb", names.namespace(entry.namespace), names.link(entry.namespace, entry.link),
                names.macs.get(entry.mac, entry.mac), entry.vlan,
                None if entry.remote is None else names.address(entry.remote), entry.permanent,
                entry.own,
            ))  # fmt: skip
    return facts


# Neighbours ---------------------------------------------------------------------------


def _is_of_interest(names: Names, entry: Neighbour) -> bool:
    """Whether anything would ever ask for the address: somebody has it, or something names it."""
    key = (version_of(entry.address), to_number(entry.address))
    if key in names.view.owners or key in names.mentioned:
        return True
    return any(
        version == key[0] and first <= key[1] <= last for version, first, last in names.ranges
    )


def _neighbour_facts(
    names: Names, entries: list[Neighbour], kinds: dict[str, int]
) -> Iterator[Any]:
    harmless: dict[Any, bool] = {}
    for entry in entries:
        fixed = entry.proxy or entry.state in _FIXED or entry.state is None
        if not fixed:
            if entry.state not in _USABLE or not entry.mac or not _is_of_interest(names, entry):
                continue
            case = _case(names, entry, kinds)
            if case is not None:
                found = harmless.get(case)
                if found is None:
                    found = harmless[case] = _changes_nothing(names, entry)
                if found:
                    continue
        yield (
            "neighbour", names.namespace(entry.namespace),
            names.link(entry.namespace, entry.link), names.address(entry.address),
            None if entry.mac is None else names.macs.get(entry.mac, entry.mac), entry.state,
            entry.proxy,
        )  # fmt: skip


def _case(names: Names, entry: Neighbour, kinds: dict[str, int]) -> Any:
    """What is the same for all entries alike; None where the truth is not known."""
    key = (version_of(entry.address), to_number(entry.address))
    owners = set(names.view.owners.get(key, ()))
    if len(owners) != 1:
        return None
    address = names.addresses.get(key)
    mac = names.macs.get(entry.mac or "")
    asker = kinds.get(entry.namespace, entry.namespace)
    link = _role(names.link(entry.namespace, entry.link), kinds)
    return (
        asker, link, key if address is None else _role(address, kinds),
        entry.mac if mac is None else _role(mac, kinds),
        address is not None and address.owner == entry.namespace,
        address is not None and mac is not None and mac.owner == address.owner,
        mac is not None and mac.owner == entry.namespace,
        type(link) is tuple and address is not None and _owner(names, entry) == address.owner,
        entry.state == "reachable",
    )  # fmt: skip


def _owner(names: Names, entry: Neighbour) -> str | None:
    found = names.links.get((entry.namespace, entry.link))
    return None if found is None else found.owner


def _role(term: Any, kinds: dict[str, int]) -> Any:
    if type(term) is Mine:
        return ("kind", kinds[term.owner], term.role)
    if type(term) is tuple:
        return tuple(_role(part, kinds) for part in term)
    return term


def _changes_nothing(names: Names, entry: Neighbour) -> bool:
    """Whether asking gives one answer, from whichever address, and the entry says the same or
    gives way to it.
    """
    view = names.view
    if entry.namespace not in view.namespaces:
        return False
    place = view.place(entry.namespace)
    if entry.link not in place.links:
        return False
    version, number = version_of(entry.address), to_number(entry.address)
    # From a loopback address nothing gets anywhere: neither the asking nor what follows it.
    sources = [
        one.number
        for one in place.addresses
        if one.version == version and not is_loopback(one.number, version)
    ]
    if len(sources) > _MOST_SOURCES:
        return False
    answers = {ask_alone(view, place, entry.link, version, number, one) for one in (None, *sources)}
    if len(answers) != 1:
        return False
    (macs,) = answers
    if macs is None or len(macs) != 1:
        return False
    return macs == (entry.mac,) or entry.state != "reachable"


# Forwarding entries -------------------------------------------------------------------


def _decides(names: Names, entry: FdbEntry, told: set[str]) -> bool:
    """Whether an entry can change where a frame goes."""
    view = names.view
    if entry.remote is not None:
        return True
    first = entry.mac[:2]
    if not first or int(first, 16) & 1:
        return False  # groups: what is for everybody takes no entry
    if entry.namespace not in view.namespaces:
        return False
    place = view.place(entry.namespace)
    bridge = entry.link if entry.link in place.ports else place.bridge_of(entry.link)
    if bridge is None or (entry.own and entry.link not in place.ports):
        return False
    if entry.mac == place.mac(bridge) or any(entry.mac == port.mac for port in place.ports[bridge]):
        return False  # the bridge's own, with or without an entry
    if entry.permanent:
        return True
    ends = view.by_mac.get(entry.mac, [])
    if not ends:
        return entry.mac in told
    if len(ends) > 1:
        return True
    link = view.link(*ends[0])
    if link is None or not isinstance(link.kind, Veth):
        return True
    port = view.peer(link)
    # Where the cable ends in a port of this bridge, that is where its MAC is looked for first.
    return port is None or port.namespace != entry.namespace or place.bridge_of(port.name) != bridge
