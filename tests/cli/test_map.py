"""`linkspan map` as it is printed: lines for people, drawings for programs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.planes import planes
from linkspan.analysis import View
from linkspan.analysis.mapping import Graph, draw_map
from linkspan.analysis.maptree import lay_out, shorten_all
from linkspan.cli import cli
from linkspan.cli.map import as_json
from linkspan.cli.mapdrawing import choose_shown, write_dot, write_mermaid
from linkspan.cli.maptext import PLAIN, Writing, write_tree
from linkspan.dataplane import (
    Address,
    Bridge,
    DataPlane,
    Link,
    Loopback,
    Macvlan,
    Object,
    Physical,
    Route,
    Veth,
    Vlan,
    Vxlan,
)
from linkspan.inventory.records import Container, HostView
from linkspan.inventory.snapshot import save


def pair(
    near: str, place: str, far: str = "eth0", master: str = "br0", **more: object
) -> list[Object]:
    return [
        Link(name=near, master=master, up=True, carrier=True, mtu=1500,
             kind=Veth(peer_name=far, peer_namespace=place)),
        Link(namespace=place, name=far, master="", carrier=True,
             kind=Veth(peer_name=near, peer_namespace="host"), **{"up": True, "mtu": 1500, **more}),  # type: ignore[arg-type]
    ]  # fmt: skip


def link(name: str, kind: Any, namespace: str = "host", **more: Any) -> Link:
    return Link(namespace=namespace, name=name, kind=kind, **{"up": True, "master": "", **more})


HOST = [
    link("lo", Loopback()), Address(link="lo", address="127.0.0.1/8"),
    link("eth0", Physical(), mac="02:00:00:00:00:01"),
    Address(link="eth0", address="192.0.2.10/24"), Address(link="eth0", address="fe80::1/64"),
    Route(destination="0.0.0.0/0", gateway="192.0.2.1", link="eth0"),
    link("eth0.7", Vlan(parent="eth0", vlan=7), up=False),
    link("mac0", Macvlan(parent="eth0", mode="bridge", parent_namespace="host"), "press"),
    Address(namespace="press", link="mac0", address="192.0.2.50/24"),
    link("br0", Bridge()), Address(link="br0", address="10.20.0.1/24"),
    *pair("p1", "shop"), Address(namespace="shop", link="eth0", address="10.20.0.2/24"),
    *pair("p2", "db", mtu=1400), Address(namespace="db", link="eth0", address="10.20.0.3/24"),
    link("vx", Vxlan(vni=7, parent="eth0", remote="192.0.2.20"), master="br0"),
    link("p9", Veth(), master="br7"),
    *pair("r1", "web", master=""), Address(namespace="web", link="eth0", address="10.9.0.2/32"),
    Route(destination="10.9.0.2/32", link="r1", protocol=4),
    link("lo", Loopback(), "alone"),
]  # fmt: skip
CONTAINERS = (
    Container(namespace="shop", name="shop", runtime="docker", networks=("front",),
              published=("192.0.2.10:8080->80/tcp",), image="nginx", id="4f" * 32),
    Container(namespace="shop", name="sidecar", runtime="docker"),
    Container(namespace="db", name="db", runtime="linkspan", networks=("front",)),
)  # fmt: skip


def draw(objects: list[Object], *containers: Container) -> Graph:
    import msgspec

    return draw_map(View(DataPlane(objects)), [msgspec.to_builtins(one) for one in containers])


def write(graph: Graph, verbose: bool = False, width: int | None = None) -> list[str]:
    return list(write_tree(lay_out(graph), Writing(graph, verbose, width, PLAIN)))


def words_of(lines: list[str]) -> list[str]:
    """The lines with single blanks behind their guides: alignment is looked at elsewhere."""
    parts = [re.fullmatch(r"((?:\|  |   )*(?:[|`]- )?)(.*)", line) for line in lines]
    return [f"{part[1]}{' '.join(part[2].split())}" for part in parts if part]


def test_published_ports_stand_at_the_cable_of_the_default_route():
    second = [
        link("br1", Bridge()), *pair("q1", "shop", far="eth1", master="br1"),
        Address(namespace="shop", link="eth1", address="10.30.0.2/24"),
        Route(namespace="shop", destination="0.0.0.0/0", gateway="10.30.0.1", link="eth1"),
    ]  # fmt: skip
    lines = words_of(write(draw([*HOST, *second], *CONTAINERS)))
    (line,) = [line for line in lines if "publishes" in line]
    assert "q1 == shop (docker) with sidecar eth1" in line


def test_the_tree_for_people():
    assert words_of(write(draw(HOST, *CONTAINERS))) == [
        "host",
        "|- eth0 uplink 192.0.2.10/24 default via 192.0.2.1",
        "|  |- eth0.7 vlan 7 ! DOWN",
        "|  `- press mac0 192.0.2.50/24 macvlan bridge",
        "|- br0 bridge of network front 10.20.0.0/24 gateway 10.20.0.1",
        "|  |- vx vxlan VNI 7 over eth0 to 192.0.2.20",
        "|  |- p1 == shop (docker) with sidecar eth0 10.20.0.2/24"
        " publishes 192.0.2.10:8080->80/tcp",
        "|  `- p2 == db (linkspan) eth0 10.20.0.3/24 ! MTU 1500 here, 1400 there",
        "|- p9 veth ! master br7 not seen, other end not seen",
        "`- r1 routes 10.9.0.2/32 == web eth0 10.9.0.2/32",
        "",
        "joined to nothing",
        "`- alone",
    ]


def test_columns_are_aligned_and_more_is_said_on_wish():
    lines = write(draw(HOST, *CONTAINERS))
    ports = [line for line in lines if "|- p1" in line or "`- p2" in line]
    assert len({line.index("  eth0") for line in ports}) == 1
    text = "\n".join(write(draw(HOST, *CONTAINERS), verbose=True))
    for wanted in ("02:00:00:00:00:01", "fe80::1/64", "image nginx", "id 4f4f4f4f4f4f", "lo  "):
        assert wanted in text


def test_long_lines_go_on_below_themselves():
    graph = draw(HOST, *CONTAINERS)
    lines = write(graph, width=60)
    assert max(map(len, lines)) <= 60
    assert "".join("".join(lines).split()).replace("|", "").count("8080->80/tcp") == 1
    number = next(i for i, line in enumerate(lines) if "p1 ==" in line)
    assert lines[number + 1].startswith("|  |    "), "the guides go on"


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "host.lks"
    save(HostView(plane=DataPlane(HOST), containers=CONTAINERS, host="crate"), str(path))
    return str(path)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["map", *words], catch_exceptions=False)


def test_a_saved_host_is_drawn_without_root(saved: str):
    done = run("--from-file", saved)
    assert done.exit_code == 0
    assert "p1" in done.stdout
    assert done.stdout.splitlines()[0] == "host"


def test_json_has_everything_once(saved: str):
    answer = json.loads(run("--from-file", saved, "--format", "json").stdout)
    ids = [one["id"] for one in answer["links"]]
    assert len(ids) == len(set(ids)) == sum(isinstance(item, Link) for item in HOST)
    known = {*ids, "outside", "address:192.0.2.20"}
    edges = [(edge["kind"], edge["from"], edge["to"]) for edge in answer["edges"]]
    assert {end for _, *ends in edges for end in ends} <= known
    assert ("cable", "link:db/eth0", "link:host/p2") in edges
    assert ("port-of", "link:host/p1", "link:host/br0") in edges
    assert ("parent-of", "link:host/eth0", "link:press/mac0") in edges
    assert ("tunnel-to", "link:host/vx", "address:192.0.2.20") in edges
    assert ("outside", "link:host/eth0", "outside") in edges
    shop = next(one for one in answer["namespaces"] if one["name"] == "shop")
    assert [one["name"] for one in shop["containers"]] == ["shop", "sidecar"]
    vx = next(one for one in answer["links"] if one["name"] == "vx")
    assert (vx["kind"], vx["settings"]) == ("vxlan", {"vni": 7, "remote": "192.0.2.20"})


def test_the_documented_fields_are_those_there_are(saved: str):
    answer = json.loads(run("--from-file", saved, "--format", "json").stdout)
    page = (Path(__file__).parents[2] / "docs" / "map.md").read_text()
    rows = [*answer, *answer["links"][0], *answer["namespaces"][0], *answer["edges"][0]]
    assert [name for name in rows if f"`{name}`" not in page] == []


def test_a_file_that_is_none_is_wrong_usage(tmp_path: Path):
    (tmp_path / "x").write_text("no host")
    assert run("--from-file", str(tmp_path / "x")).exit_code == 2


# Drawings -----------------------------------------------------------------------------

EVIL = (
    'a"b', "back\\", "x];y", "<script>", "a&amp;b", "#quot;", "end", "`md`", "new\nline", "\x1b[2J",
    "subgraph", "{}|", "%%{init}%%", "ünïcode", "$$x$$", "click a", "",
)  # fmt: skip


def drawing_of(graph: Graph) -> tuple[str, str]:
    shown = choose_shown(lay_out(graph))
    return "\n".join(write_dot(graph, shown)), "\n".join(write_mermaid(graph, shown))


def evil_host() -> Graph:
    objects: list[Object] = [link("br0", Bridge())]
    containers = []
    for number, name in enumerate(EVIL):
        objects += pair(
            f"p{number}", f"c{number}", far=f"e{number}{name.split()[0] if name else ''}"
        )
        containers.append(Container(namespace=f"c{number}", name=name, runtime="docker"))
    return draw(objects, *containers)


DOT_ID = r"[a-z_]+[0-9a-z]*"
DOT_QUOTED = r'"(?:[^"\\\n]|\\.)*"'
DOT_ATTRIBUTES = rf"(?: \[(?:[a-z]+={DOT_QUOTED}(?:, )?)+\])?"
DOT_LINES = re.compile(
    rf"(?:graph map {{|  subgraph cluster_{DOT_ID} {{|\s*}}|    label={DOT_QUOTED};"
    rf"|\s+{DOT_ID}{DOT_ATTRIBUTES};|  {DOT_ID} -- {DOT_ID}{DOT_ATTRIBUTES};)"
)
MERMAID_TEXT = r"[A-Za-z0-9 .,:/_()!+@#;-]*(?:<br/>[A-Za-z0-9 .,:/_()!+@#;-]*)*"
MERMAID_LINES = re.compile(
    rf'(?:flowchart LR|  subgraph n\d+\["{MERMAID_TEXT}"\]|  end'
    rf'|\s+[a-z]\d+e?(?:\["{MERMAID_TEXT}"\]|\[\["{MERMAID_TEXT}"\]\]|\(\["{MERMAID_TEXT}"\]\)'
    rf'|>"{MERMAID_TEXT}"\])|  [a-z]\d+ (?:---|-\.-|===) [a-z]\d+)'
)


def bad_lines(pattern: re.Pattern[str], text: str) -> list[str]:
    return [line for line in text.split("\n") if not pattern.fullmatch(line)]


def decode_mermaid(text: str) -> str:
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), text)


def test_evil_names_are_shown_and_mean_nothing():
    dot, mermaid = drawing_of(evil_host())
    assert bad_lines(DOT_LINES, dot) == []
    assert bad_lines(MERMAID_LINES, mermaid) == []
    for name in EVIL:
        if name.isprintable():
            assert f"{name} (docker)" in decode_mermaid(mermaid)
            escaped = name.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
            assert f"{escaped} (docker)" in dot
    assert "\x1b" not in dot + mermaid + "\n".join(write(evil_host()))


@settings(max_examples=30, deadline=None)
@given(planes(), st.lists(st.text(max_size=12), max_size=3))
def test_drawings_are_well_formed_and_whole(plane: DataPlane, names: list[str]):
    view = View(plane)
    spaces = list(view.namespaces)
    containers = [
        {"namespace": spaces[number % len(spaces)], "name": name}
        for number, name in enumerate(names)
        if spaces
    ]
    graph = draw_map(view, containers)
    dot, mermaid = drawing_of(graph)
    assert bad_lines(DOT_LINES, dot) == []
    assert bad_lines(MERMAID_LINES, mermaid) == []
    others = sum(not isinstance(mapped.link.kind, Loopback) for mapped in graph.links.values())
    assert len(re.findall(r"^    l\d+", mermaid, re.M)) >= others
    assert len(re.findall(r"^    l\d+ \[", dot, re.M)) >= others
    assert dot.count(" -- ") == len(graph.edges)
    answer = as_json(graph, HostView(plane=plane))
    assert len(json.loads(json.dumps(answer))["links"]) == len(graph.links)


def test_what_is_left_out_is_counted_in_a_drawing():
    objects: list[Object] = [link("br0", Bridge())]
    for number in range(30):
        objects += pair(f"p{number}", f"c{number}")
    graph = draw(objects)
    shown = choose_shown(shorten_all(lay_out(graph)))
    for text in ("\n".join(write_dot(graph, shown)), "\n".join(write_mermaid(graph, shown))):
        assert "and 25 more" in text
        assert text.count("eth0") == 5


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_it():
    for graph in (evil_host(), draw(HOST, *CONTAINERS)):
        dot, _ = drawing_of(graph)
        done = subprocess.run(["dot", "-Tplain"], input=dot, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        drawn = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("node")}
        assert len(drawn) == len(re.findall(r"^\s+[lom]\d+ \[", dot, re.M))
