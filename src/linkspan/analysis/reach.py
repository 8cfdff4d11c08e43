"""Who reaches whom: containers, the host, the outside and the internet, port by port.

Asked once for every pair of kinds (see symmetry), and told for every pair of their members.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from linkspan.analysis.addresses import version_of
from linkspan.analysis.flow import Flow
from linkspan.analysis.reach_asking import Asked, Asker
from linkspan.analysis.reach_ends import INTERNET, OUTSIDE, Outside, find_outside
from linkspan.analysis.reach_outcome import Outcome, Reached
from linkspan.analysis.segments import find_uplink
from linkspan.analysis.symmetry import Kinds, find_kinds
from linkspan.analysis.trace import Disposition
from linkspan.analysis.view import View
from linkspan.dataplane.objects import HOST
from linkspan.errors import NotFound

__all__ = [
    "HOST", "INTERNET", "OUTSIDE", "Finding", "Group", "Reach", "Reached", "Row", "find_reach",
]  # fmt: skip
PROTOCOLS = ("tcp", "udp", "sctp")


class Group(msgspec.Struct, frozen=True):
    """Interchangeable ends: containers by namespace, or the host, outside, internet alone.

    `name` is the first of the members. `addresses` and `published` (ports of the host that
    lead there) are by member, in the same order of meaning for all of them.
    `networks` has each member's bridge where that network is like others, so that findings may
    differ by whether two members are on one network; `gateways` the host's addresses there.
    """

    name: str
    members: tuple[str, ...]
    addresses: tuple[tuple[str, ...], ...] = ()
    published: tuple[tuple[int, ...], ...] = ()
    networks: tuple[str, ...] = ()
    gateways: tuple[tuple[str, ...], ...] = ()

    def network(self, number: int) -> str:
        """The bridge of a member on one of several networks that are alike; else empty."""
        return self.networks[number] if self.networks else ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What every member of one group finds when it connects to every member of another.

    Asked of one pair: `asked`. `same`: a member to itself, else to another one. `near`: only
    those on one network (true) or on two (false); None: all pairs. `address` is
    that of the member asked; `address_number` its place among that member's addresses, None
    for an address that is the same for all members (the host's); `gateway_number` is the place
    of an address of the host among those on the asking member's network. `ports` are ranges;
    `published_number` is the place of such a port among those that lead to the member.
    `how`: bridged, routed, translated, relayed, tunnelled, local, direct; empty where blocked.
    `why` and `rule` say what blocks; `source` is the address that the target sees where it is
    not the sender's own, or where it leaves the host; `lands` the namespace that gets the
    packet where that is another one.
    """

    origin: str
    target: str
    same: bool
    near: bool | None = None
    asked: tuple[str, str]
    address: str
    address_number: int | None
    gateway_number: int | None = None
    protocol: str
    ports: tuple[tuple[int, int], ...]
    published_number: int | None = None
    verdict: Reached
    how: str
    disposition: Disposition
    why: str = ""
    rule: str = ""
    source: str = ""
    lands: str = ""
    depends_on: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()

    def has_port(self, port: int) -> bool:
        """Whether a port is among those asked."""
        return any(first <= port <= last for first, last in self.ports)


class Row(NamedTuple):
    """One cell for two concrete ends: `finding` has the rest, said of the pair it was asked of."""

    origin: str
    target: str
    address: str
    protocol: str
    ports: tuple[tuple[int, int], ...]
    verdict: Reached
    finding: Finding


class Reach(msgspec.Struct, frozen=True):
    """The matrix: groups of ends, and what they find of each other.

    `outside` tells which stranger was asked for, None where nothing leads outside.
    """

    origins: tuple[Group, ...]
    targets: tuple[Group, ...]
    findings: tuple[Finding, ...]
    uplink: str | None = None
    beside: dict[int, str] = {}
    beyond: dict[int, str] = {}

    def rows(self, origin: str | None = None, target: str | None = None) -> Iterator[Row]:
        """Every concrete pair, by its namespaces; only those of one origin or target if named."""
        origins = {group.name: group for group in self.origins}
        targets = {group.name: group for group in self.targets}
        for finding in self.findings:
            to, group = targets[finding.target], origins[finding.origin]
            for place, one in enumerate(group.members):
                if origin not in (None, one):
                    continue
                here = group.network(place)
                for number, other in enumerate(to.members):
                    if target not in (None, other) or (one == other) != finding.same:
                        continue
                    if finding.near in (None, here == to.network(number)):
                        yield _row(finding, group, place, to, number)

    def verdict(
        self, origin: str, target: str, protocol: str, port: int, address: str | None = None
    ) -> Reached | None:
        """Whether one namespace reaches another; None where that was not asked.

        Without `address` any of the target's will do: reachable when one of them is.
        """
        found = {
            row.verdict
            for row in self.rows(origin, target)
            if row.protocol == protocol
            and (address is None or row.address == address)
            and any(first <= port <= last for first, last in row.ports)
        }
        for verdict in (Reached.REACHABLE, Reached.DEPENDS, Reached.BLOCKED):
            if verdict in found:
                return verdict
        return None

    def flow(self, row: Row) -> tuple[str, Flow, bool]:
        """How to ask for a row's first port alone: the namespace, the flow, and whether the
        target is a stranger that `stranger_at` has to put there.
        """
        version = version_of(row.address)
        source = link = None
        namespace = row.origin
        if row.origin in (OUTSIDE, INTERNET):
            namespace, link = HOST, self.uplink
            source = (self.beside if row.origin == OUTSIDE else self.beyond)[version]
        flow = Flow(
            source=source, link=link, destination=row.address,
            destination_port=row.ports[0][0], protocol=row.protocol,
        )  # fmt: skip
        return namespace, flow, row.target == OUTSIDE


def _row(finding: Finding, group: Group, place: int, to: Group, number: int) -> Row:
    address, ports = finding.address, finding.ports
    one, other = group.members[place], to.members[number]
    if finding.gateway_number is not None:
        address = group.gateways[place][finding.gateway_number]
    if finding.address_number is not None:
        address = to.addresses[number][finding.address_number]
    if finding.published_number is not None:
        port = to.published[number][finding.published_number]
        ports = ((port, port),)
    return Row(one, other, address, finding.protocol, ports, finding.verdict, finding)


def find_reach(
    view: View,
    containers: Iterable[str] | None = None,
    origins: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    protocols: Sequence[str] = PROTOCOLS,
    ports: Sequence[int] | None = None,
    uplink: str | None = None,
    across: bool = True,
) -> Reach:
    """Who reaches whom on a host.

    `containers` are the namespaces of the matrix; without it all but the host's. `origins` and
    `targets` choose among them, "host", "outside" and "internet". Every port on which a target
    listens is asked, with `ports` exactly those, whether somebody listens there or not.
    `uplink` is the host's link to the outside where that is not the one of its default route.
    `across`: containers on networks that are alike may be in one group.
    Raises NotFound for a name that is not there.
    """
    names = tuple(view.namespaces)
    known = tuple(name for name in names if name != HOST) if containers is None else tuple(
        dict.fromkeys(containers)
    )  # fmt: skip
    others = tuple(name for name in names if name != HOST and name not in set(known))
    for name in (*known, *(origins or ()), *(targets or ())):
        if name not in view.namespaces and name not in (OUTSIDE, INTERNET):
            raise NotFound(f"the data plane has no namespace {name!r}")
    # Without an uplink the host is asked at all its addresses, wherever they are.
    across = across and (uplink or find_uplink(view)) is not None
    kinds = find_kinds(view, (*known, *others), across)
    outside = find_outside(view, kinds.mentioned, uplink)
    everybody = _ends(known, outside, view)
    asker = Asker(view, kinds, outside, tuple(protocols), None if ports is None else tuple(ports))
    groups_from = _make_groups(kinds, everybody, origins, asker)
    groups_to = _make_groups(kinds, everybody, targets, asker)
    findings: list[Finding] = []
    for origin in groups_from:
        for target in groups_to:
            for same, near, pair in _pairs(origin, target):
                findings += [
                    _finding(origin, target, same, near, pair, asked) for asked in asker.ask(*pair)
                ]
    return Reach(
        groups_from,
        groups_to,
        tuple(findings),
        None if outside is None else outside.uplink,
        {} if outside is None else outside.beside,
        {} if outside is None else outside.beyond,
    )


def _ends(known: tuple[str, ...], outside: Outside | None, view: View) -> tuple[str, ...]:
    found = known
    if HOST in view.namespaces:
        found += (HOST,)
    if outside is not None and outside.beside:
        found += (OUTSIDE,)
    if outside is not None and outside.beyond:
        found += (INTERNET,)
    return found


def _make_groups(
    kinds: Kinds, everybody: tuple[str, ...], chosen: Sequence[str] | None, asker: Asker
) -> tuple[Group, ...]:
    """Those of one kind together; the host, outside and internet each alone."""
    wanted = everybody if chosen is None else tuple(n for n in dict.fromkeys(chosen))
    held: dict[int | str, list[str]] = {}
    for name in wanted:
        if name in everybody or name in kinds.of:
            held.setdefault(kinds.of.get(name, name), []).append(name)
    return tuple(
        Group(
            members[0],
            tuple(members),
            tuple(kinds.addresses.get(name, ()) for name in members),
            tuple(kinds.published.get(name, ()) for name in members),
            tuple(kinds.networks[name] for name in members if name in kinds.networks),
            tuple(asker.gateways(name) for name in members if name in kinds.networks),
        )
        for members in held.values()
    )


def _pairs(origin: Group, target: Group) -> Iterator[tuple[bool, bool | None, tuple[str, str]]]:
    """A pair of two members that are not one, and a member with itself, where there are such.
    Where both are on networks that are alike, a pair on one network and one on two.
    """
    one = origin.members[0]
    if origin.networks and target.networks:
        for near in (True, False):
            pair = _pair_on(origin, target, near)
            if pair is not None:
                yield False, near, pair
    else:
        for first in origin.members[:2]:
            other = next((name for name in target.members[:2] if name != first), None)
            if other is not None:
                yield False, None, (first, other)
                break
    if one in (OUTSIDE, INTERNET):
        return
    both = set(target.members)
    shared = next((name for name in origin.members if name in both), None)
    if shared is not None:
        yield True, None, (shared, shared)


def _pair_on(origin: Group, target: Group, near: bool) -> tuple[str, str] | None:
    """Two members on one network, or on two."""
    held: dict[str, list[str]] = {}
    for name, network in zip(target.members, target.networks, strict=True):
        held.setdefault(network, []).append(name)
    for name, network in zip(origin.members, origin.networks, strict=True):
        if near:
            rows = held.get(network, [])
        else:
            rows = next((rows for other, rows in held.items() if other != network), [])
        found = next((other for other in rows if other != name), None)
        if found is not None:
            return name, found
    return None


def _finding(
    origin: Group,
    target: Group,
    same: bool,
    near: bool | None,
    pair: tuple[str, str],
    asked: Asked,
) -> Finding:
    outcome = asked.outcome
    return Finding(
        origin=origin.name,
        target=target.name,
        same=same,
        near=near,
        asked=pair,
        address=asked.address,
        address_number=asked.address_number,
        gateway_number=asked.gateway_number,
        protocol=asked.protocol,
        ports=asked.ports,
        published_number=asked.published_number,
        verdict=outcome.verdict,
        how=outcome.how,
        disposition=outcome.disposition,
        why=outcome.why,
        rule=outcome.rule,
        source=outcome.source,
        lands=_elsewhere(outcome, pair[1]),
        depends_on=outcome.depends_on,
        not_understood=outcome.not_understood,
    )  # fmt: skip


def _elsewhere(outcome: Outcome, target: str) -> str:
    """The namespace that gets the packet, where that is not the one that was meant."""
    blocked = outcome.verdict is Reached.BLOCKED
    if blocked or outcome.disposition is Disposition.LEFT or outcome.lands == target:
        return ""
    return outcome.lands
