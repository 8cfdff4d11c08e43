"""`linkspan exposed` on saved hosts: the table, the details, JSON and the exit status."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from linkspan.cli.exposed import exposed
from linkspan.cli.inhabitants import name_namespaces
from linkspan.cli.state import State
from linkspan.dataplane import DataPlane
from linkspan.inventory.records import Container, HostView
from linkspan.inventory.snapshot import load, save
from walks.crowds import make_crowd


@pytest.fixture
def file(tmp_path: Path) -> str:
    crowd = make_crowd(random.Random(3), "linkspan", bridges=2, size=2, odd=False)
    names = (Container(namespace="c1", name="shop", runtime="docker"),)
    path = tmp_path / "host.lks"
    save(HostView(plane=DataPlane(crowd.objects.values()), containers=names), str(path))
    return str(path)


def run(*words: str) -> Result:
    return CliRunner().invoke(exposed, words, obj=State(), standalone_mode=False)


def test_the_table(file: str):
    done = run("--from-file", file)
    assert done.return_value == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split() == ["ADDRESS", "PORT", "PROTO", "FROM", "ANSWERS", "OPENED", "BY"]
    row = next(line for line in lines if " 20000 " in line and "192.0.2.10" in line)
    assert "anywhere" in row
    assert "shop:80 web" in row
    assert row.endswith("linkspan")


def test_details_name_rule_and_element(file: str):
    done = run("--from-file", file, "-v")
    assert "ports: tcp . 20000 : 10.20.0.11 . 80" in done.output
    assert "dnat" in done.output
    assert "inet linkspan published rule 2" in done.output


def test_json(file: str):
    found = json.loads(run("--from-file", file, "--proto", "tcp", "--format", "json").output)
    assert found["complete"]
    assert found["segments"] == ["up0"]
    one = next(one for one in found["exposed"] if one["ports"] == [[20000, 20000]])
    assert (one["ip"], one["answers"]["name"], one["answered"]) == (4, "shop", "yes")


def test_nothing_is_an_answer(file: str):
    done = run("--from-file", file, "--proto", "udp")
    assert (done.return_value, done.output) == (0, "Strangers on up0 reach nothing.\n")


def test_a_link_that_is_not_there_is_wrong_usage(file: str):
    done = run("--from-file", file, "--link", "eth7")
    assert done.exception is not None
    assert "eth7" in str(done.exception)


def test_names_of_namespaces():
    def named(*pairs: tuple[str, str]) -> dict[str, str]:
        held = [Container(namespace=place, name=name, runtime="docker") for place, name in pairs]
        return name_namespaces(HostView(plane=DataPlane(), containers=tuple(held)))

    assert named(("host", "near"), ("host", "agent")) == {"host": "host"}
    assert named(("web", "side"), ("web", "web")) == {"web": "web+side"}
    four = named(*(("web", name) for name in ("a", "b", "web", "c")))
    assert four == {"web": "web+a+2 more"}


def test_a_firewall_that_was_not_read_leaves_no_certain_answer(file: str, tmp_path: Path):
    blind = replace(load(file), unseen=("The firewall of host could not be read: run as root",))
    save(blind, str(tmp_path / "blind.lks"))
    done = run("--from-file", str(tmp_path / "blind.lks"))
    assert done.return_value == 3
