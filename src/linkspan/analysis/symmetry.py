"""Kinds of namespaces: which are interchangeable, so that one answers for all.

Two namespaces are of one kind when swapping all that is theirs (names of links, MACs,
addresses, published ports) maps the plane onto itself: every fact about the one has its mirror
about the other, and no prefix, range or mask tells their addresses apart. Whatever is true
between two namespaces is then true between any two others of the same kinds. When in doubt,
two namespaces are not alike.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from typing import Any, NamedTuple

from linkspan.analysis.addresses import to_text
from linkspan.analysis.symmetry_entries import find_entry_facts
from linkspan.analysis.symmetry_facts import Facts
from linkspan.analysis.symmetry_networks import find_networks
from linkspan.analysis.symmetry_terms import Fact, Mine, PublishedPort, find_mines
from linkspan.analysis.view import View
from linkspan.dataplane.objects import HOST


class Kind(NamedTuple):
    """Namespaces that are interchangeable, in the plane's order."""

    members: tuple[str, ...]


class Kinds(NamedTuple):
    """All namespaces by kind.

    `published` has the ports of the host that lead to a namespace, by their role: the same
    role is the same thing in all members of a kind. `addresses` has the addresses of each, in
    an order that is the same for all of a kind. `mentioned` are the single addresses that
    rules, sets and gateways name. `networks` has the bridge that a namespace is on where that
    network is one of several that are alike; what is true for two members of one network then
    need not be so for members of two.
    """

    kinds: tuple[Kind, ...]
    of: dict[str, int]
    published: dict[str, tuple[int, ...]]
    addresses: dict[str, tuple[str, ...]]
    mentioned: frozenset[tuple[int, int]]
    networks: dict[str, str]


def find_kinds(view: View, containers: Iterable[str] | None = None, across: bool = False) -> Kinds:
    """The kinds of the namespaces `containers`; without it of all but the host's. `across`:
    whole networks are compared too, and those on networks that are alike may be of one kind.
    """
    if containers is None:
        containers = (name for name in view.namespaces if name != HOST)
    return _Comparison(view, tuple(dict.fromkeys(containers)), across).kinds()


class _Comparison:
    """Compares namespaces by the facts about them."""

    def __init__(self, view: View, containers: tuple[str, ...], across: bool) -> None:
        self._view = view
        self._containers = containers
        networks = find_networks(view, frozenset(containers)) if across else ()
        self._facts = Facts(view, containers, networks)
        self._owned = self._find_owned_ports()

    # Ports ----------------------------------------------------------------------------

    def _find_owned_ports(self) -> dict[int, str]:
        """Ports of the host that only facts about one namespace name."""
        owners: dict[int, set[str] | None] = {}
        if self._facts.names.ports_are_masked:
            return {}
        terms = [
            *self._facts.with_ports,
            *(term for one in self._facts.chains for _, term in one.rules),
        ]
        for term in terms:
            ports = {one.number for one in find_mines(term) if type(one) is PublishedPort}
            if not ports:
                continue
            named = self._facts.names.whose(term)
            if not named <= self._facts.names.containers:
                named = set()
            for number in ports:
                held = owners.setdefault(number, set(named))
                if held is None or len(ports) > 1 or len(named) != 1 or held != named:
                    owners[number] = None
        return {
            number: next(iter(held))
            for number, held in owners.items()
            if held and number not in self._facts.names.everyones_ports
        }

    def _settle(self, term: Any) -> Any:
        """Ports that belong to nobody become numbers."""
        if type(term) is PublishedPort:
            return term if term.number in self._owned else term.number
        if type(term) is tuple:
            return tuple(self._settle(part) for part in term)
        return term

    def _give_facts_with_ports(self) -> dict[str, dict[int, Any]]:
        """A port's role is what is said about it; the facts then name it by its role."""
        facts = [self._settle(fact) for fact in self._facts.with_ports]
        for chain in self._facts.chains:
            facts += chain.facts(self._settle)
        said: dict[int, list[Fact]] = {}
        for fact in facts:
            for number in {o.number for o in find_mines(fact) if type(o) is PublishedPort}:
                said.setdefault(number, []).append(fact)
        roles: dict[str, dict[int, Any]] = {}
        for number, rows in said.items():
            owner = self._owned[number]
            told = Tally(self._facts.names.seen_by(row, owner) for row in rows)
            roles.setdefault(owner, {})[number] = (
                frozenset(told.items()), self._facts.names.where_port(number),
            )  # fmt: skip
        for fact in facts:
            self._facts.take(_with_roles(fact, roles, self._owned))
        return roles

    # Comparing ------------------------------------------------------------------------

    def kinds(self) -> Kinds:
        """Compare all namespaces."""
        roles = self._give_facts_with_ports()
        names = self._facts.names
        names.cut_by_length()
        for namespace in self._containers:
            place = self._view.place(namespace)
            held = self._facts.held[namespace]
            for one in place.addresses:
                if (one.version, one.number) in names.addresses:
                    held.append((one.link, *self._where(one.version, one.number, namespace)))
        for owner, network in names.networks.items():
            self._facts.held[owner] += [
                ("subnet", place, one.version, one.length, names.where(one.version, one.network))
                for place, one in enumerate(network.subnets)
            ]
        for (version, number), mine in names.addresses.items():
            if mine.owner in names.networks:
                self._facts.held[mine.owner].append(
                    (mine.role, *self._where(version, number, mine.owner))
                )
        for (namespace, name), mine in names.links.items():
            self._facts.held[mine.owner].append((mine.role, names.matched_names(namespace, name)))
        alone = names.unlike | (
            (self._view.proxying | self._view.with_local_prefixes) & names.containers
        )
        if names.all_unlike:
            alone = set(self._containers)
        before = self._group(alone)
        numbers_of = dict(before)
        for number, owner in enumerate(names.networks, len(self._containers)):
            numbers_of[owner] = number
        facts = find_entry_facts(names, self._facts.entries, numbers_of)
        for fact in facts:
            self._facts.take(fact)
        of = self._group(alone) if facts else before
        networks = self._compare_networks(of, alone) if names.networks else {}
        if networks:
            of = self._group(alone, networks)
        members: dict[int, list[str]] = {}
        for name in self._containers:
            members.setdefault(of[name], []).append(name)
        numbers = {old: new for new, old in enumerate(members)}
        return Kinds(
            tuple(Kind(tuple(held)) for held in members.values()),
            {name: numbers[of[name]] for name in self._containers},
            {
                name: _in_order(roles.get(name, {}), roles.get(held[0], {}))
                for held in members.values()
                for name in held
            },
            {name: self._addresses_of(name) for name in self._containers},
            frozenset(names.mentioned),
            {
                name: names.networks[owner].bridge
                for name in self._containers
                if (owner := names.network_of.get(name, "")) in networks
            },
        )

    def _where(self, version: int, number: int, owner: str) -> tuple[Any, ...]:
        names = self._facts.names
        return (names.seen_by(names.subnet_of(version, number), owner),
                *names.where(version, number))  # fmt: skip

    def _group(self, alone: set[str], alike: dict[str, int] | None = None) -> dict[str, int]:
        """Namespaces by all that is said about them and, where they are on one, by their network;
        networks that are `alike` count as one.
        """
        numbers: dict[Any, int] = {}
        found = {}
        network_of = self._facts.names.network_of
        for name in self._containers:
            mark: Any = name
            if name not in alone:
                network: Any = network_of.get(name)
                if alike is not None:
                    network = alike.get(network, network)
                mark = (network, _tally(self._facts.held[name]))
            found[name] = numbers.setdefault(mark, len(numbers))
        return found

    def _compare_networks(self, of: dict[str, int], alone: set[str]) -> dict[str, int]:
        """Networks that are like another one, numbered by what all facts about them and their
        members say.
        """
        names = self._facts.names
        if names.all_unlike or names.masks:
            return {}
        numbers: dict[Any, int] = {}
        said: dict[int, int] = {}
        for name, kind in of.items():
            if kind not in said:
                said[kind] = numbers.setdefault(_tally(self._facts.held[name]), len(numbers))
        found: dict[str, int] = {}
        for owner, network in names.networks.items():
            if owner in names.apart or names.is_crossed(network):
                continue
            if not alone.isdisjoint(network.members):
                continue
            members = Tally(said[of[name]] for name in network.members)
            mark = (_tally(self._facts.held[owner]), frozenset(members.items()))
            found[owner] = numbers.setdefault(mark, len(numbers))
        shared = Tally(found.values())
        return {owner: number for owner, number in found.items() if shared[number] > 1}

    def _addresses_of(self, namespace: str) -> tuple[str, ...]:
        return tuple(
            to_text(one.number, one.version) for one in self._view.place(namespace).addresses
        )


def _tally(facts: list[Any]) -> frozenset[Any]:
    return frozenset(Tally(facts).items())


def _in_order(roles: dict[int, Any], first: dict[int, Any]) -> tuple[int, ...]:
    """Ports so that those of one role stand where the first member of the kind has them."""
    left: dict[Any, list[int]] = {}
    for number in sorted(roles, reverse=True):
        left.setdefault(roles[number], []).append(number)
    return tuple(left[first[number]].pop() for number in sorted(first))


def _with_roles(term: Any, roles: dict[str, dict[int, Any]], owned: dict[int, str]) -> Any:
    kind = type(term)
    if kind is PublishedPort:
        owner = owned[term.number]
        return Mine(owner, roles[owner][term.number])
    if kind is tuple:
        return tuple(_with_roles(part, roles, owned) for part in term)
    return term
