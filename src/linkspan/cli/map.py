"""`linkspan map`: what is joined to what on a host."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from linkspan.cli.looking import Looking, print_gaps, view_options
from linkspan.cli.state import reads
from linkspan.cli.tables import print_json

if TYPE_CHECKING:
    from linkspan.analysis.mapping import Edge, Graph, MappedLink
    from linkspan.inventory.records import HostView


@click.command("map")
@click.option(
    "--format", "output", type=click.Choice(["tree", "dot", "mermaid", "json"]), default="tree",
    help="A tree for people, a drawing for Graphviz or Mermaid, or JSON for programs.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Show all of what is alike, too.")
@click.option("-v", "--verbose", is_flag=True, help="Show MACs, MTUs, ids, and lo.")
@view_options
@reads
def map_(output: str, everything: bool, verbose: bool, looking: Looking) -> None:
    """Show namespaces, bridges, cables, tunnels and containers, and what joins them.

    A tree from the host down: its uplinks, its bridges with their ports and the containers
    behind these, links on other links below them, namespaces that nothing joins at the end.
    What is down or not seen has an exclamation mark. Of many that are alike a few are shown.
    Needs root or --from-file, no daemon.

    Exit status: 0 shown, 3 the host or file could not be read, 2 wrong usage.

    \b
    linkspan map
    linkspan map --format dot | dot -Tsvg > map.svg
    linkspan map --from-file before.lks --all
    """
    from msgspec import to_builtins

    from linkspan.analysis import View
    from linkspan.analysis.mapping import draw_map
    from linkspan.analysis.maptree import lay_out, shorten_all

    host = looking.whole()
    graph = draw_map(View(host.plane, sockets_known=True), map(to_builtins, host.containers))
    print_gaps(host)
    if output == "json":
        print_json(as_json(graph, host))
        return
    trees = lay_out(graph)
    if not everything:
        trees = shorten_all(trees)
    if output == "tree":
        from linkspan.cli.maptext import LINES, PLAIN, Writing, write_tree

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        guides = LINES if _can_print(LINES.middle + LINES.cable) else PLAIN
        _print(write_tree(trees, Writing(graph, verbose, width, guides)))
        return
    from linkspan.cli.mapdrawing import choose_shown, write_dot, write_mermaid

    write = write_dot if output == "dot" else write_mermaid
    _print(write(graph, choose_shown(trees)))


def _print(lines: Iterable[str]) -> None:
    click.echo("\n".join(lines))


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


# JSON ---------------------------------------------------------------------------------


def as_json(graph: Graph, host: HostView) -> dict[str, Any]:
    """The map as documented in docs/map.md."""
    from msgspec import to_builtins

    return {
        "host": host.host,
        "kernel": host.kernel,
        "taken": host.taken,
        "namespaces": [
            {
                "id": f"namespace:{one.name}",
                "name": one.name,
                "containers": [to_builtins(container) for container in one.containers],
            }
            for one in graph.namespaces.values()
        ],
        "links": [_link_json(mapped) for mapped in graph.links.values()],
        "edges": [_edge_json(edge) for edge in graph.edges],
        "unseen": list(host.unseen),
        "changing": list(host.changing),
    }


def _link_json(mapped: MappedLink) -> dict[str, Any]:
    from msgspec import to_builtins

    link = mapped.link
    settings = {} if link.kind is None else to_builtins(link.kind)
    hidden = {"kind", "name", "parent", "parent_namespace"}
    return {
        "id": _link_id(mapped.end),
        "namespace": link.namespace,
        "name": link.name,
        "kind": mapped.kind,
        "settings": {
            name: value
            for name, value in settings.items()
            if value is not None and name not in hidden and not name.startswith("peer_")
        },
        "mac": link.mac,
        "mtu": link.mtu,
        "up": link.up,
        "carrier": link.carrier,
        "alias": link.alias or "",
        "addresses": list(mapped.addresses),
        "gateways": list(mapped.gateways),
        "routes": list(mapped.routes),
        "missing": list(mapped.missing),
    }


def _edge_json(edge: Edge) -> dict[str, str]:
    if edge.target is None:
        target = "outside"
    elif isinstance(edge.target, tuple):
        target = _link_id(edge.target)
    else:
        target = f"address:{edge.target}"
    return {"kind": edge.kind.value, "from": _link_id(edge.source), "to": target}


def _link_id(end: tuple[str, str]) -> str:
    """Unique, since a link's name holds no slash."""
    return f"link:{end[0]}/{end[1]}"
