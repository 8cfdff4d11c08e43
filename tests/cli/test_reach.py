"""`linkspan reach` as it is printed: for few containers, for many, and for programs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from linkspan.cli import cli
from linkspan.cli.reachlabels import label, ports_text
from linkspan.dataplane import HOST, Chain, DataPlane, FirewallRule, Table
from linkspan.dataplane.rules import Match, Payload, Verdict
from linkspan.inventory.records import Container, HostView
from linkspan.inventory.snapshot import load, save
from walks.crowds import make_crowd

WIDTH = 100


def saved(folder: Path, style: str, bridges: int, size: int, odd: bool = False) -> str:
    crowd = make_crowd(random.Random(5), style, bridges=bridges, size=size, odd=odd)
    containers = [Container(namespace=HOST, name=HOST, runtime="host")] + [
        Container(namespace=one.name, name=f"web{one.name[1:]}", runtime="docker")
        for one in crowd.members
    ]
    path = str(folder / "host.lks")
    save(HostView(plane=DataPlane(crowd.objects.values()), containers=tuple(containers)), path)
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["reach", *words])


@pytest.mark.parametrize(
    ("style", "bridges", "size", "odd"),
    [("docker", 1, 3, False), ("linkspan", 3, 10, True), ("docker", 10, 100, False)],
)
def test_the_matrix_fits_a_line(tmp_path: Path, style: str, bridges: int, size: int, odd: bool):
    done = run("--from-file", saved(tmp_path, style, bridges, size, odd))
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) < 60
    assert lines[0].startswith(f"{bridges * size} containers")


def test_a_small_matrix_has_ports_in_its_cells(tmp_path: Path):
    done = run("--from-file", saved(tmp_path, "docker", 1, 3), "--ip", "4")
    rows = [line.split("  ") for line in done.output.splitlines()[4:9]]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["from \\ to", "web1..web3 (3)", "host", "outside", "internet"],
        ["web1..web3 (3)", "80 8080", "22", "all", "all"],
        ["host", "80 8080 :20000-20002", "all", "all"],
        ["outside", cells[3][1], "22"],
        ["internet", ":20000-20002", "22"],
    ]
    assert cells[3][1].endswith(":20000-20002")


def test_one_pair_says_how_and_what_blocks(tmp_path: Path):
    path = saved(tmp_path, "linkspan", 2, 3)
    done = run("web1", "web4:80", "--from-file", path, "--ip", "4")
    assert done.output.splitlines()[1].split()[:4] == ["web1", "web4", "10.21.0.14:80", "blocked"]
    assert "rejected with admin-prohibited by inet linkspan refuse rule 1" in done.output
    done = run("outside", "web2", "--from-file", path, "--only", "reachable", "--ip", "4")
    assert done.output.splitlines()[1].split()[2:] == [
        "192.0.2.10:20001",
        "reachable",
        "translated",
    ]


def test_json_tells_kinds_and_pairs(tmp_path: Path):
    path = saved(tmp_path, "docker", 2, 4)
    shown = json.loads(run("--from-file", path, "--format", "json").output)
    kinds = {one["kind"]: one["members"] for one in shown["kinds"]}
    assert {name: len(members) for name, members in kinds.items()} == {
        "c1": 4, "c5": 4, "host": 1, "outside": 1, "internet": 1,
    }  # fmt: skip
    assert kinds["c1"][1]["name"] == "web2"
    assert kinds["c1"][1]["published"] == [20001]
    (pair,) = (
        one for one in shown["pairs"]
        if (one["from"], one["to"], one["itself"]) == ("c1", "c1", False)
        and ":" not in one["address"]
    )  # fmt: skip
    assert (pair["ports"], pair["verdict"], pair["how"]) == (
        [[80, 80], [8080, 8080]], "reachable", "bridged",
    )  # fmt: skip
    second = kinds["c1"][1]["addresses"]
    assert second[pair["address_of_member"]] == pair["address"] == "10.20.0.12"
    assert {"why", "rule", "disposition", "source", "lands"} <= pair.keys()


def test_a_port_that_nobody_listens_on(tmp_path: Path):
    path = saved(tmp_path, "none", 1, 2)
    done = run("web1", "web2", "--port", "81", "--ip", "4", "--from-file", path)
    assert "nobody listens on 10.20.0.12:81/tcp" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("wbe1",), "did you mean web1"),
        (("10.20.0.11",), "for an address ask `linkspan path`"),
        (("web1", "web2", "--port", "0"), "0 is not in the range"),
    ],
)
def test_wrong_words(tmp_path: Path, words: tuple[str, ...], said: str):
    done = run(*words, "--from-file", saved(tmp_path, "none", 1, 2))
    assert done.exit_code == 2
    assert said in done.output


def test_labels():
    assert label(["web10", "web2", "web1", "web3"]) == "web1..web3, web10 (4)"
    assert label(["db"]) == "db"
    assert label(["db", "shop", "web"]) == "db, shop, web"
    assert label(["a", "b", "c", "d"]) == "a, b, .. (4)"
    assert ports_text([(80, 80), (81, 83), (90, 90)]) == ["80-83", "90"]
    assert ports_text([(1, 65535)]) == ["all"]
    assert ports_text([(n, n) for n in range(1, 21, 2)])[-1] == "+5"


def test_a_port_that_is_closed_on_the_way_out_does_not_close_the_way_out(tmp_path: Path):
    path = saved(tmp_path, "none", 1, 2)
    seen = load(path)
    drop = FirewallRule((Match(Payload("tcp", "dport"), 25), Verdict("drop")))
    chain = Chain(name="out", hook="forward", rules=(drop,))
    shut = Table(family="inet", name="admin", chains=(chain,))
    save(replace(seen, plane=DataPlane([*seen.plane, shut])), path, force=True)
    done = run("--from-file", path)
    assert "-24 26-" in done.output
    assert "no way out" not in done.output
