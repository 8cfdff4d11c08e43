"""The map of a host as a drawing for Graphviz (dot) or Mermaid.

A namespace is a box with its links in it. Names are written so that whatever they hold is
shown and nothing of it is read as part of the drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from linkspan.analysis.mapping import Edge, EdgeKind, Graph, MappedLink, MappedNamespace
from linkspan.analysis.maptree import Branch
from linkspan.analysis.view import End
from linkspan.cli.maptext import Writing, describe_kind, name_namespace, shown_addresses
from linkspan.cli.tables import clean
from linkspan.dataplane import Loopback

OUTSIDE = "outside"


class Shown(NamedTuple):
    """What of a map is drawn: its links, and how many branches are left out below which link,
    or (with None) beside the namespaces.
    """

    links: frozenset[End]
    left_out: Mapping[End | None, int]


class _Node(NamedTuple):
    """A node of the drawing: its id there, and its lines of text."""

    id: str
    lines: tuple[str, ...]
    kind: str


def choose_shown(trees: Iterable[Branch]) -> Shown:
    """The links of trees that may have been shortened."""
    links: set[End] = set()
    left_out: dict[End | None, int] = {}
    waiting: list[tuple[End | None, Branch]] = [(None, tree) for tree in trees]
    while waiting:
        above, branch = waiting.pop()
        if branch.more:
            left_out[above] = left_out.get(above, 0) + branch.more
        links.update(branch.ends)
        anchor = branch.ends[0] if branch.ends else above
        waiting += [(anchor, child) for child in branch.children]
    return Shown(frozenset(links), left_out)


class _Drawing:
    """The nodes and edges that both languages write."""

    def __init__(self, graph: Graph, shown: Shown) -> None:
        self.graph = graph
        self.writing = Writing(graph)
        self.nodes: dict[object, _Node] = {}
        self.boxes: list[tuple[str, str, list[_Node]]] = []
        self.edges: list[tuple[EdgeKind, _Node, _Node]] = []
        for namespace in graph.namespaces.values():
            self._add_box(namespace, shown)
        self.loose: list[_Node] = []
        for edge in graph.edges:
            self._add_edge(edge)
        for above, count in shown.left_out.items():
            node = _Node(f"m{len(self.loose)}", (f"... and {count:,} more",), "more")
            self.loose.append(node)
            if above in self.nodes:
                self.edges.append((EdgeKind.CABLE, node, self.nodes[above]))

    def _add_box(self, namespace: MappedNamespace, shown: Shown) -> None:
        inside = [self.graph.links[end] for end in namespace.links if end in shown.links]
        if namespace.links and not inside:
            return
        others = [mapped for mapped in inside if not isinstance(mapped.link.kind, Loopback)]
        held = []
        for mapped in others or inside:
            node = _Node(f"l{len(self.nodes)}", self._lines(mapped), mapped.kind)
            self.nodes[mapped.end] = node
            held.append(node)
        self.boxes.append((f"n{len(self.boxes)}", name_namespace(namespace), held))

    def _lines(self, mapped: MappedLink) -> tuple[str, ...]:
        trouble = [f"{thing} not seen" for thing in mapped.missing]
        if mapped.link.up is False:
            trouble.append("DOWN")
        kind = describe_kind(mapped, self.writing)
        return (
            clean(mapped.link.name),
            *([kind] if kind != "veth" else []),
            *map(clean, shown_addresses(mapped, self.writing)),
            *([clean(f"! {', '.join(trouble)}")] if trouble else []),
        )

    def _add_edge(self, edge: Edge) -> None:
        source = self.nodes.get(edge.source)
        if source is None:
            return
        if isinstance(edge.target, tuple):
            target = self.nodes.get(edge.target)
        else:
            target = self._loose(edge.target or OUTSIDE)
        if target is not None:
            self.edges.append((edge.kind, source, target))

    def _loose(self, name: str) -> _Node:
        """A node in no namespace: the outside, or an address that a tunnel leads to."""
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = _Node(f"o{len(self.nodes)}", (clean(name),), OUTSIDE)
            self.loose.append(node)
        return node


# Graphviz -----------------------------------------------------------------------------

_DOT_SHAPES = {"bridge": "box3d", OUTSIDE: "ellipse", "more": "plaintext"}
_DOT_EDGES = {
    EdgeKind.CABLE: "",
    EdgeKind.PORT: ' [color="gray40"]',
    EdgeKind.PARENT: ' [style="dashed"]',
    EdgeKind.TUNNEL: ' [style="bold", color="blue"]',
    EdgeKind.OUTSIDE: ' [style="dotted"]',
}


def write_dot(graph: Graph, shown: Shown) -> Iterator[str]:
    """The map in the DOT language of Graphviz."""
    drawing = _Drawing(graph, shown)
    yield "graph map {"
    yield '  graph [rankdir="LR", fontname="sans-serif", compound="true"];'
    yield '  node [shape="box", fontname="sans-serif", fontsize="10"];'
    for id, title, held in drawing.boxes:
        yield f"  subgraph cluster_{id} {{"
        yield f"    label={_quote_dot([title])};"
        yield from _dot_nodes(held, "    ")
        yield "  }"
    yield from _dot_nodes(drawing.loose, "  ")
    for kind, source, target in drawing.edges:
        yield f"  {source.id} -- {target.id}{_DOT_EDGES[kind]};"
    yield "}"


def _dot_nodes(nodes: Iterable[_Node], indent: str) -> Iterator[str]:
    for node in nodes:
        shape = _DOT_SHAPES.get(node.kind)
        more = f', shape="{shape}"' if shape else ""
        yield f"{indent}{node.id} [label={_quote_dot(node.lines)}{more}];"


def _quote_dot(lines: Iterable[str]) -> str:
    """A quoted string. Only the quote and the backslash mean something in it; & would begin
    an entity in a label.
    """
    escaped = (
        line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines
    )
    return '"' + "\\n".join(escaped) + '"'


# Mermaid ------------------------------------------------------------------------------

_MERMAID_SHAPES: dict[str, tuple[str, str]] = {
    "bridge": ('[["', '"]]'), OUTSIDE: ('(["', '"])'), "more": ('>"', '"]')
}  # fmt: skip
_MERMAID_EDGES = {
    EdgeKind.CABLE: "---",
    EdgeKind.PORT: "---",
    EdgeKind.PARENT: "-.-",
    EdgeKind.TUNNEL: "===",
    EdgeKind.OUTSIDE: "-.-",
}
_MERMAID_PLAIN: Callable[[str], bool] = set(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:/_-()!+@"
).__contains__


def write_mermaid(graph: Graph, shown: Shown) -> Iterator[str]:
    """The map as a Mermaid flowchart."""
    drawing = _Drawing(graph, shown)
    yield "flowchart LR"
    for id, title, held in drawing.boxes:
        yield f'  subgraph {id}["{_escape_mermaid([title])}"]'
        yield from _mermaid_nodes(held or [_Node(f"{id}e", ("no links",), "more")], "    ")
        yield "  end"
    yield from _mermaid_nodes(drawing.loose, "  ")
    for kind, source, target in drawing.edges:
        yield f"  {source.id} {_MERMAID_EDGES[kind]} {target.id}"


def _mermaid_nodes(nodes: Iterable[_Node], indent: str) -> Iterator[str]:
    for node in nodes:
        left, right = _MERMAID_SHAPES.get(node.kind, ('["', '"]'))
        yield f"{indent}{node.id}{left}{_escape_mermaid(node.lines)}{right}"


def _escape_mermaid(lines: Iterable[str]) -> str:
    """Quoted text: what could mean something to Mermaid, Markdown or HTML as its number."""
    return "<br/>".join(
        "".join(c if _MERMAID_PLAIN(c) else f"#{ord(c)};" for c in line) for line in lines
    )
