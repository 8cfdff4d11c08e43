"""How things are printed."""

from __future__ import annotations

import time

import pytest

from linkspan.cli.tables import clean, fit_commands, join_cell, render_age, render_port


def port(**changes: object) -> dict[str, object]:
    usual = {"host_ip": "0.0.0.0", "host_port": 8080, "host_port_end": 8080, "port": 80}
    return {**usual, "protocol": "tcp", **changes}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "0.0.0.0:8080->80/tcp"),
        ({"host_port_end": 8090, "protocol": "udp"}, "0.0.0.0:8080-8090->80-90/udp"),
        ({"host_ip": "::"}, "[::]:8080->80/tcp"),
    ],
)
def test_a_port_shows_both_sides(changes: dict[str, object], text: str):
    assert render_port(port(**changes)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "119 min"), (7200, "2 h"), (200000, "2 d")],
)
def test_ages_are_short(seconds: int, text: str, monkeypatch: pytest.MonkeyPatch):
    now = 1_800_000_000
    monkeypatch.setattr(time, "time", lambda: now + seconds)
    assert render_age("2027-01-15T08:00:00Z") == text


def test_control_characters_are_shown_as_such():
    assert clean("a\x1b[2Jb\n") == "a\\x1b[2Jb\\x0a"
    assert clean("gr\u00fc\u00df \u2713") == "gr\u00fc\u00df \u2713"


def test_an_empty_cell_is_a_dash_and_several_things_are_joined():
    assert join_cell("", ", ") == "-"
    assert join_cell([], ", ") == "-"
    assert join_cell(["a", "b"], ", ") == "a, b"


def test_only_commands_are_cut_and_never_to_nothing():
    headings = ["NAME", "COMMAND", "AGE"]
    rows = [["shop", "python3 -m http.server 80", "5 min"]]
    assert fit_commands(headings, rows, 80) == (rows, 80)
    cut, width = fit_commands(headings, rows, 30)
    assert cut == [["shop", "python3 -m http.\u2026", "5 min"]]
    assert width == 30
    narrow, width = fit_commands(headings, rows, 10)
    assert narrow == [["shop", "python3 -\u2026", "5 min"]]
    assert width == 4 + 10 + 5 + 2 * 2
