"""A map laid out as a tree: what hangs on what, from the host down.

Every link of the map is in the tree exactly once, also when links refer to each other in
circles or are nested without end.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

import msgspec

from linkspan.analysis.addresses import to_number, version_of
from linkspan.analysis.mapping import Graph, MappedLink, MappedNamespace
from linkspan.analysis.view import End
from linkspan.dataplane.links import Loopback, Veth
from linkspan.dataplane.objects import HOST

DEEPEST = 30
"""Levels after which a tree goes on at the top again."""
MOST_ALIKE, SHOWN_ALIKE = 8, 5
MOST_BRIDGES = 40
"""A host's bridges are what its map is about: more of these are shown, however alike."""


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the tree and what hangs below it.

    `link` is the link that the branch is about; at a cable into another namespace it is the
    near end and `far` the other one; `far` alone hangs on the link above. `entered` is the
    namespace that the line leads into (with neither link: the namespace itself); `home`
    says that what else is in it hangs here. `more` stands for so many branches that are left
    out because they are like those before.
    """

    link: MappedLink | None = None
    far: MappedLink | None = None
    entered: MappedNamespace | None = None
    home: bool = False
    joined: bool = True
    """False for a namespace that nothing joins to another."""
    children: tuple[Branch, ...] = ()
    more: int = 0

    @property
    def ends(self) -> tuple[End, ...]:
        """The links on this line."""
        return tuple(mapped.end for mapped in (self.link, self.far) if mapped is not None)


def lay_out(graph: Graph) -> tuple[Branch, ...]:
    """The map as trees, one for each namespace that hangs on no other: the host's first, those
    that nothing joins last.
    """
    return _Layout(graph).trees()


def shorten(branch: Branch, most: int = MOST_ALIKE, shown: int = SHOWN_ALIKE) -> Branch:
    """The branch with few of those children that are alike in all but names and addresses."""
    return msgspec.structs.replace(branch, children=shorten_all(branch.children, most, shown))


def shorten_all(
    branches: Iterable[Branch], most: int = MOST_ALIKE, shown: int = SHOWN_ALIKE
) -> tuple[Branch, ...]:
    """Branches, with few of those that are alike."""
    groups: defaultdict[object, list[Branch]] = defaultdict(list)
    for branch in branches:
        groups[_likeness(branch)].append(branch)
    found: list[Branch] = []
    for group in groups.values():
        if group[0].link is not None and group[0].link.kind == "bridge":
            few = group[:MOST_BRIDGES]
        else:
            few = group if len(group) <= most else group[:shown]
        found += (shorten(branch, most, shown) for branch in few)
        if len(few) < len(group):
            found.append(Branch(more=len(group) - len(few), joined=group[0].joined))
    return tuple(found)


def _likeness(branch: Branch) -> object:
    """What alike branches have in common."""
    entered = branch.entered
    inside = entered and tuple((one.runtime, bool(one.published)) for one in entered.containers)
    return (
        *((mapped and _shape(mapped)) for mapped in (branch.link, branch.far)),
        inside, branch.home, branch.joined, branch.more,
        tuple(_likeness(child) for child in branch.children),
    )  # fmt: skip


def _shape(mapped: MappedLink) -> object:
    link = mapped.link
    return (
        mapped.kind, link.mtu, link.up, link.carrier, mapped.missing, mapped.outside, link.port,
        len(mapped.addresses), bool(mapped.gateways), len(mapped.routes), bool(mapped.master),
    )  # fmt: skip


class _Layout:
    """One layout: which links and namespaces have found their place."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.placed: set[End] = set()
        self.at_home: set[str] = set()
        self.neighbours = self._find_neighbours()
        self.roots: list[str] = []
        self.rank = self._rank()

    def trees(self) -> tuple[Branch, ...]:
        apart = {name for name in self.roots if self._is_apart(name)}
        found = [self._namespace(name) for name in self.roots if name not in apart]
        alone = [self._namespace(name, joined=False) for name in self.roots if name in apart]
        return (*found, *self._rest(), *alone)

    def _is_apart(self, name: str) -> bool:
        """Whether nothing leads out of a namespace: no cable, no card, no tunnel."""
        links = (self.graph.links[end] for end in self.graph.namespaces[name].links)
        leads = any(mapped.outside or mapped.remotes for mapped in links)
        return name != HOST and not self.neighbours[name] and not leads

    def _rest(self) -> list[Branch]:
        """What was too deep or in a circle, so that nothing above led to it."""
        found = []
        for name, namespace in self.graph.namespaces.items():
            if name not in self.at_home:
                found.append(self._namespace(name))
            while rest := [end for end in namespace.links if end not in self.placed]:
                found.append(Branch(entered=namespace, children=(self._place(rest[0], 1),)))
        return found

    # Which namespace hangs below which -------------------------------------------------

    def _find_neighbours(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {name: set() for name in self.graph.namespaces}
        for end, mapped in self.graph.links.items():
            for other in (mapped.peer, mapped.parent):
                if other is not None and other[0] != end[0]:
                    found[end[0]].add(other[0])
                    found[other[0]].add(end[0])
        return found

    def _rank(self) -> dict[str, int]:
        """Namespaces by their distance from the host, or from the hub of their own islands."""
        rank: dict[str, int] = {}
        order = {name: number for number, name in enumerate(self.graph.namespaces)}
        for start in sorted(order, key=self._hub_first):
            if start in rank:
                continue
            self.roots.append(start)
            rank[start] = len(rank)
            waiting = deque([start])
            while waiting:
                for name in sorted(self.neighbours[waiting.popleft()], key=order.__getitem__):
                    if name not in rank:
                        rank[name] = len(rank)
                        waiting.append(name)
        return rank

    def _hub_first(self, name: str) -> tuple[bool, int, int]:
        links = [self.graph.links[end] for end in self.graph.namespaces[name].links]
        leading = sum(mapped.outside or mapped.kind == "bridge" for mapped in links)
        return name != HOST, -leading, -len(self.neighbours[name])

    def _hangs(self, mapped: MappedLink) -> bool:
        """Whether a link is shown where it comes from: below another namespace's link."""
        own = self.rank[mapped.link.namespace]
        return any(
            other is not None and self.rank[other[0]] < own
            for other in (mapped.peer, mapped.parent)
        )

    # Branches -------------------------------------------------------------------------

    def _namespace(self, name: str, joined: bool = True) -> Branch:
        namespace = self.graph.namespaces[name]
        return Branch(
            entered=namespace, home=True, joined=joined, children=self._inside(namespace, 1)
        )

    def _inside(self, namespace: MappedNamespace, depth: int) -> tuple[Branch, ...]:
        """What is in a namespace and hangs on nothing else."""
        self.at_home.add(namespace.name)
        top = [
            mapped
            for mapped in map(self.graph.links.__getitem__, namespace.links)
            if mapped.master is None and not self._hangs(mapped)
            and (mapped.parent is None or mapped.parent[0] != namespace.name)
        ]  # fmt: skip
        return self._place_all((mapped.end for mapped in top), depth)

    def _place_all(self, ends: Iterable[End], depth: int) -> tuple[Branch, ...]:
        if depth > DEEPEST:
            return ()
        free = sorted(
            (end for end in ends if end not in self.placed),
            key=lambda end: self._order(self.graph.links[end]),
        )
        return tuple(self._place(end, depth) for end in free if end not in self.placed)

    def _order(self, mapped: MappedLink) -> tuple[object, ...]:
        """Ways out, then bridges, then cables by the address at their other end, then lo."""
        far = self.graph.links[mapped.peer] if mapped.peer is not None else mapped
        first = far.addresses[0] if far.addresses else ""
        try:
            text = first.partition("/")[0]
            address = (version_of(text), to_number(text)) if text else (9, 0)
        except ValueError:
            address = (9, 0)
        return (
            isinstance(mapped.link.kind, Loopback),
            not mapped.outside,
            not mapped.gateways,
            mapped.end not in self.graph.ports and mapped.kind != "bridge",
            isinstance(mapped.link.kind, Veth) and far is not mapped,
            address if far is not mapped else (0, 0),
            mapped.end,
        )

    def _place(self, end: End, depth: int) -> Branch:
        mapped = self.graph.links[end]
        self.placed.add(end)
        below = list(self.graph.ports.get(end, ()))
        below += self.graph.stacked.get(end, ())
        far = None
        if mapped.peer is not None and mapped.peer not in self.placed:
            if self.rank[mapped.peer[0]] > self.rank[end[0]]:
                far = self.graph.links[mapped.peer]
                self.placed.add(far.end)
                below += self.graph.ports.get(far.end, ())
                below += self.graph.stacked.get(far.end, ())
        children = self._place_all(
            (one for one in below if self._belongs(one, end, far)), depth + 1
        )
        crossed = mapped.parent is not None and mapped.parent[0] != end[0] and self._hangs(mapped)
        inner = far or (mapped if crossed else None)
        if inner is None:
            return Branch(link=mapped, children=children)
        entered = self.graph.namespaces[inner.link.namespace]
        home = entered.name not in self.at_home and depth < DEEPEST
        if home:
            children += self._inside(entered, depth + 1)
        link = None if crossed else mapped
        return Branch(link=link, far=inner, entered=entered, home=home, children=children)

    def _belongs(self, end: End, *above: object) -> bool:
        """Whether a link is shown below one that it refers to: below its master, if it has one,
        else its parent; and where another namespace's link leads to it, there.
        """
        mapped = self.graph.links[end]
        over = {one.end if isinstance(one, MappedLink) else one for one in above}
        if mapped.peer is not None and self._hangs(mapped) and mapped.parent is None:
            return False
        if mapped.parent is not None and mapped.parent[0] != end[0] and self._hangs(mapped):
            return mapped.parent in over
        return mapped.master in over if mapped.master is not None else mapped.parent in over
