"""The map of a host as a tree of lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from linkspan.analysis.addresses import is_link_local, to_number
from linkspan.analysis.mapping import (
    Graph,
    MappedLink,
    MappedNamespace,
    is_gateway,
    name_network,
    subnet_of,
)
from linkspan.analysis.maptree import Branch
from linkspan.cli.tables import clean
from linkspan.dataplane import Bridge, Ipvlan, Loopback, Macvlan, Tun, Veth, Vlan, Vxlan

MOST_REMOTES = 6
USUAL_MTUS = (1500, 65536)
SHORTEST_TEXT = 24
"""Columns below which a line is rather too long than wrapped into shreds."""


class Guides(NamedTuple):
    """What the lines of a tree are drawn with."""

    middle: str
    last: str
    onward: str
    blank: str
    cable: str


LINES = Guides("├─ ", "└─ ", "│  ", "   ", "═")
PLAIN = Guides("|- ", "`- ", "|  ", "   ", "=")


class Row(NamedTuple):
    """A line: what stands before it, columns that are aligned with its siblings', and the rest."""

    cells: Sequence[str]
    rest: Sequence[str]
    form: str = ""
    """Rows of one form are aligned with each other."""


class Writing(NamedTuple):
    """How to write: what of, how much, and with which signs."""

    graph: Graph
    verbose: bool = False
    width: int | None = None
    guides: Guides = LINES


def write_tree(trees: Iterable[Branch], writing: Writing) -> Iterator[str]:
    """The lines of a map. With a width, longer ones go on below themselves."""
    alone: list[Branch] = []
    first = True
    for tree in trees:
        if not tree.joined:
            alone.append(tree)
            continue
        if not first:
            yield ""
        first = False
        yield from _wrap("", "", _root_text(tree, writing), writing.width)
        yield from _write_children(tree.children, "", writing)
    if alone:
        if not first:
            yield ""
        yield "joined to nothing"
        yield from _write_children(alone, "", writing)


def _write_children(children: Iterable[Branch], before: str, writing: Writing) -> Iterator[str]:
    shown = [child for child in children if writing.verbose or not _is_plain_loopback(child)]
    rows = [_row(child, writing) for child in shown]
    widths = {form: _column_widths(rows, form) for form in {row.form for row in rows}}
    guides = writing.guides
    for number, (child, row) in enumerate(zip(shown, rows, strict=True)):
        last = number == len(shown) - 1
        below = before + (guides.blank if last else guides.onward)
        text = "  ".join(
            cell.ljust(width) for cell, width in zip(row.cells, widths[row.form], strict=True)
        ).rstrip()
        text = "  ".join(part for part in (text, *row.rest) if part)
        inner = below + (guides.onward if child.children else guides.blank)
        yield from _wrap(
            before + (guides.last if last else guides.middle), inner, text, writing.width
        )
        yield from _write_children(child.children, below, writing)


def _column_widths(rows: Sequence[Row], form: str) -> list[int]:
    """How wide the columns are of those rows that have one form."""
    columns = zip(*(row.cells for row in rows if row.form == form), strict=True)
    return [max(map(len, column)) for column in columns]


def _wrap(head: str, below: str, text: str, width: int | None) -> Iterator[str]:
    if width is None or len(head) + len(text) <= width or width - len(below) < SHORTEST_TEXT:
        yield head + text
        return
    lines = textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=below + "  ",
        break_long_words=False, break_on_hyphens=False, drop_whitespace=True,
    )  # fmt: skip
    yield from lines


def _is_plain_loopback(branch: Branch) -> bool:
    """A loopback as every namespace has one."""
    mapped = branch.link
    return (
        mapped is not None
        and isinstance(mapped.link.kind, Loopback)
        and not branch.children
        and all(address in ("127.0.0.1/8", "::1/128") for address in mapped.addresses)
        and not mapped.routes
        and not (mapped.link.up is False and mapped.addresses)
    )


# Lines --------------------------------------------------------------------------------


def _root_text(tree: Branch, writing: Writing) -> str:
    assert tree.entered is not None
    row = _namespace_row(tree, writing)
    text = "  ".join((*row.cells, *row.rest))
    return text if tree.home else f"{text}  (goes on)"


def _row(branch: Branch, writing: Writing) -> Row:
    if branch.more:
        return Row((f"... and {branch.more:,} more",), (), "more")
    if branch.far is not None:
        return _far_row(branch, branch.far, writing)
    if branch.link is not None:
        return _link_row(branch.link, writing)
    return _namespace_row(branch, writing)


def _namespace_row(branch: Branch, writing: Writing) -> Row:
    assert branch.entered is not None
    name = name_namespace(branch.entered)
    facts = [*_published(branch.entered), *_occupant_facts(branch.entered, writing)]
    return Row((name,), facts, "namespace")


def _far_row(branch: Branch, far: MappedLink, writing: Writing) -> Row:
    """A link in another namespace, and the near end of the cable that leads there."""
    assert branch.entered is not None
    cells = [name_namespace(branch.entered), clean(far.link.name), _addresses(far, writing)]
    facts = []
    near = branch.link
    if near is not None:
        own = ", ".join(one for one in near.addresses if not _is_automatic(one))
        start = (clean(near.link.name), clean(own), *_routing(near, writing))
        sign = writing.guides.cable * 2
        cells[0] = f"{' '.join(part for part in start if part)} {sign} {cells[0]}"
    else:
        facts.append(describe_kind(far, writing))
    if writing.verbose:
        facts += _routing(far, writing)
    if far.master is not None:
        facts.append(clean(f"port of {far.master[1]}"))
    if _is_published_by(branch, far, writing):
        facts += _published(branch.entered)
    if branch.home:
        facts += _occupant_facts(branch.entered, writing)
    for mapped in (near, far):
        if mapped is not None:
            facts += _details(mapped, writing, at_cable=near is not None)
    if near is not None and _mtus_differ(near, far):
        facts.append(f"! MTU {near.link.mtu} here, {far.link.mtu} there")
    for mapped in (near, far):
        if mapped is not None:
            facts += _troubles(mapped, writing, at_cable=near is not None)
    return Row(cells, facts, "cable" if near is not None else "far")


def _link_row(mapped: MappedLink, writing: Writing) -> Row:
    kind = describe_kind(mapped, writing)
    addresses = _addresses(mapped, writing)
    if mapped.kind == "bridge" and is_gateway(writing.graph, mapped.end):
        network = name_network(writing.graph, mapped.end)
        if network:
            kind = f"{kind} of network {clean(network)}"
        addresses = _gateway_text(mapped)
    facts = [_describe_peer(mapped, writing)] if mapped.peer is not None else []
    facts += _routing(mapped, writing)
    facts += _details(mapped, writing)
    facts += _troubles(mapped, writing)
    return Row((clean(mapped.link.name), kind, addresses), facts, "link")


def _describe_peer(mapped: MappedLink, writing: Writing) -> str:
    assert mapped.peer is not None
    far = writing.graph.links[mapped.peer]
    place = far.end[1] if far.end[0] == mapped.end[0] else f"{far.end[1]} of {far.end[0]}"
    text = f"cable to {place}"
    if far.master is not None:
        text += f", a port of {far.master[1]}"
    return clean(text)


def _gateway_text(mapped: MappedLink) -> str:
    texts = []
    for address in mapped.addresses:
        if _is_automatic(address):
            continue
        try:
            texts.append(f"{subnet_of(address)} gateway {address.partition('/')[0]}")
        except ValueError:
            texts.append(address)
    return clean(", ".join(texts))


def name_namespace(namespace: MappedNamespace) -> str:
    """What a namespace is called: its containers' names with their runtime, or its own."""
    name = clean(namespace.name)
    if not namespace.containers:
        return name
    named = sorted(namespace.containers, key=lambda one: one.name != namespace.name)
    first, *others = named
    title = clean(first.name)
    if first.runtime and first.runtime != "host":
        title += f" ({clean(first.runtime)})"
    if namespace.name == "host" and first.runtime != "host":
        title, others = name, named
    if others:
        names = ", ".join(clean(one.name) for one in others[:4])
        more = f" and {len(others) - 4:,} more" if len(others) > 4 else ""
        title += f" with {names}{more}"
    return title


def _is_published_by(branch: Branch, far: MappedLink, writing: Writing) -> bool:
    """Whether published ports stand at this cable: that of the default route, else the first."""
    assert branch.entered is not None
    by_default = [
        end for end in branch.entered.links
        if end in writing.graph.links and writing.graph.links[end].gateways
    ]  # fmt: skip
    return far.end == by_default[0] if by_default else branch.home


def _published(namespace: MappedNamespace) -> list[str]:
    published = [clean(port) for one in namespace.containers for port in one.published]
    return [f"publishes {', '.join(published)}"] if published else []


def _occupant_facts(namespace: MappedNamespace, writing: Writing) -> list[str]:
    facts = []
    if writing.verbose:
        facts += [f"image {clean(one.image)}" for one in namespace.containers if one.image]
        facts += [f"id {clean(one.id[:12])}" for one in namespace.containers if one.id]
    return facts


# Facts --------------------------------------------------------------------------------


def describe_kind(mapped: MappedLink, writing: Writing) -> str:
    """A link's kind and what matters of it: "vlan 10 on eth0", "vxlan VNI 100 over eth0"."""
    kind = mapped.link.kind
    parent = mapped.parent[1] if mapped.parent is not None else None
    on = f" on {parent}" if parent is not None and not _is_below_parent(mapped) else ""
    match kind:
        case Vlan():
            text = f"vlan {kind.vlan}{on}"
        case Macvlan() | Ipvlan():
            words = (mapped.kind, kind.mode, getattr(kind, "flag", None))
            flag_said = words[2] if words[2] != "bridge" else None
            text = " ".join(word for word in (*words[:2], flag_said) if word) + on
        case Vxlan():
            text = f"vxlan VNI {kind.vni}"
            if parent is not None:
                text += f" over {parent}"
            if mapped.remotes:
                text += f" to {_remotes(mapped, writing)}"
        case Tun():
            text = "tap" if kind.tap else "tun"
        case Bridge() if kind.vlan_filtering:
            text = "bridge with vlans"
        case Veth() if mapped.peer is None and not mapped.outside:
            text = "veth"
        case _:
            text = "uplink" if mapped.outside else mapped.kind
    return clean(text)


def _is_below_parent(mapped: MappedLink) -> bool:
    """Whether the tree shows a link below its parent, so that it need not name it."""
    return mapped.master is None or (
        mapped.parent is not None and mapped.parent[0] != mapped.end[0]
    )


def _remotes(mapped: MappedLink, writing: Writing) -> str:
    texts = []
    for remote in mapped.remotes:
        text = remote.address
        if remote.link is not None:
            text += f" ({remote.link[1]} of {remote.link[0]})"
        texts.append(text)
    if not writing.verbose and len(texts) > MOST_REMOTES:
        texts[MOST_REMOTES:] = [f"{len(texts) - MOST_REMOTES:,} more"]
    return ", ".join(texts)


def shown_addresses(mapped: MappedLink, writing: Writing) -> list[str]:
    """The addresses of a link; those that IPv6 makes by itself only on wish."""
    return [one for one in mapped.addresses if writing.verbose or not _is_automatic(one)]


def _addresses(mapped: MappedLink, writing: Writing) -> str:
    return clean(", ".join(shown_addresses(mapped, writing)))


def _is_automatic(address: str) -> bool:
    """IPv6 gives every link a link-local address."""
    text = address.partition("/")[0]
    try:
        return ":" in text and is_link_local(to_number(text), 6)
    except ValueError:
        return False


def _routing(mapped: MappedLink, writing: Writing) -> list[str]:
    """The default route by a link, and other routes that somebody made."""
    facts = []
    if mapped.gateways:
        gateways = [one for one in mapped.gateways if one != mapped.link.name]
        facts.append(f"default via {', '.join(gateways)}" if gateways else "default route")
    if mapped.routes:
        facts.append(f"routes {_few(mapped.routes, writing)}")
    return [clean(fact) for fact in facts]


def _troubles(mapped: MappedLink, writing: Writing, at_cable: bool = False) -> list[str]:
    """What is down, or not there; one text, or none."""
    link = mapped.link
    found = [f"{thing} not seen" for thing in mapped.missing]
    if link.up is False:
        found.append("DOWN")
    elif link.carrier is False and not _explains_carrier(mapped, writing.graph):
        found.append("NO CARRIER")
    name = f"{link.name} " if at_cable else ""
    return [clean(f"! {name}{', '.join(found)}")] if found else []


def _few(texts: Sequence[str], writing: Writing) -> str:
    if writing.verbose or len(texts) <= MOST_REMOTES:
        return ", ".join(texts)
    return f"{', '.join(texts[:MOST_REMOTES])} and {len(texts) - MOST_REMOTES:,} more"


def _explains_carrier(mapped: MappedLink, graph: Graph) -> bool:
    """Whether there is no carrier because of what the map says anyway."""
    if mapped.kind == "bridge":
        ports = (graph.links[port] for port in graph.ports.get(mapped.end, ()))
        return not any(port.link.up and port.link.carrier for port in ports)
    return mapped.peer is not None and graph.links[mapped.peer].link.up is False


def _details(mapped: MappedLink, writing: Writing, at_cable: bool = False) -> list[str]:
    """What is shown on wish, and an MTU that is not the usual one."""
    link = mapped.link
    facts = []
    if writing.verbose and link.mac and not isinstance(link.kind, Loopback):
        facts.append(f"{link.name} {link.mac}" if at_cable else link.mac)
    if link.mtu not in (None, *USUAL_MTUS) and not at_cable:
        facts.append(f"MTU {link.mtu}")
    if not writing.verbose:
        return facts
    if link.port is not None:
        facts += [flag for flag in ("isolated", "hairpin") if getattr(link.port, flag)]
    if isinstance(link.kind, Vxlan):
        if link.kind.local:
            facts.append(f"from {link.kind.local}")
        if link.kind.port:
            facts.append(f"UDP port {link.kind.port}")
    if link.alias:
        facts.append(f"alias {link.alias}")
    return [clean(fact) for fact in facts]


def _mtus_differ(near: MappedLink, far: MappedLink) -> bool:
    return None not in (near.link.mtu, far.link.mtu) and near.link.mtu != far.link.mtu
