"""Who reaches whom on a segment, in every macvlan mode: the table of docs/networks/macvlan.md.

Run as a program it writes the table: PYTHONPATH=src:tests python tests/kernel/test_macvlan_reach.py
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import Lab
from lab.segment import HOST, NEIGHBOUR, OUTSIDE, ROUTER, SUBNET, Segment

DOCS = Path(__file__).resolve().parents[2] / "docs/networks/macvlan.md"
BEGIN, END = "<!-- reach: begin -->\n", "<!-- reach: end -->\n"
SECOND = "192.168.7.128/26"


class Case(NamedTuple):
    """One row of the table."""

    title: str
    mode: str
    options: tuple[tuple[str, str], ...] = ()
    reflective: bool = False


CASES = (
    Case("bridge", "bridge"),
    Case("private", "private"),
    Case("vepa", "vepa"),
    Case("vepa, the switch sends frames back", "vepa", reflective=True),
    Case("passthru", "passthru"),
    Case("bridge, `host_access=true`", "bridge", (("host_access", "true"),)),
)
COLUMNS = (
    "another member",
    "a member of another network on the parent",
    "the host",
    "a neighbour",
    "the router",
    "behind the router",
)
EXPECTED = {
    "bridge": "yes yes no yes yes yes",
    "private": "no no no yes yes yes",
    "vepa": "no no no yes yes yes",
    "vepa, the switch sends frames back": "yes yes yes yes yes yes",
    "passthru": "- - no yes yes yes",
    "bridge, `host_access=true`": "yes yes yes yes yes yes",
}


def address(sandbox: Any) -> str:
    return str(sandbox["endpoints"][0]["ipv4"]).split("/")[0]


def observe(segment: Segment, case: Case) -> list[str]:
    """Whether packets go to and fro between a container and each of the columns."""
    if case.reflective:
        segment.reflect(segment.host, "eth1")
    options = {"mode": case.mode, **dict(case.options)}
    segment.network("lan", options=options)
    web = segment.sandbox("web", "lan")
    peers: list[tuple[Any, str] | None] = [None, None]
    if case.mode != "passthru":
        other = segment.sandbox("other", "lan")
        subnet = {"subnet": SUBNET, "gateway": ROUTER, "ip_range": SECOND}
        segment.network("second", options={"mode": case.mode}, subnets=[subnet])
        third = segment.sandbox("third", "second")
        peers = [(other["netns"], address(other)), (third["netns"], address(third))]
    peers += [
        (segment.host, HOST),
        (segment.neighbour, NEIGHBOUR),
        (segment.router, ROUTER),
        (segment.outside, OUTSIDE),
    ]

    def judge(peer: tuple[Any, str] | None) -> str:
        if peer is None:
            return "-"
        place, there = peer
        ways = segment.reaches(web["netns"], there), segment.reaches(place, address(web))
        return {(True, True): "yes", (False, False): "no"}.get(ways, f"one way {ways}")

    with ThreadPoolExecutor(len(peers)) as pool:
        return list(pool.map(judge, peers))


def render(rows: dict[str, list[str]]) -> str:
    lines = ["| mode | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {title} | " + " | ".join(cells) + " |" for title, cells in rows.items()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_who_reaches_whom(lab: Lab, case: Case) -> None:
    assert observe(Segment(lab), case) == EXPECTED[case.title].split()


def test_the_table_in_the_docs_is_what_is_tested() -> None:
    text = DOCS.read_text()
    written = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    assert written == render({title: cells.split() for title, cells in EXPECTED.items()})


def main() -> None:
    rows = {}
    for case in CASES:
        with Lab() as lab:
            rows[case.title] = observe(Segment(lab), case)
    text = DOCS.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    DOCS.write_text(text[:begin] + render(rows) + text[end:])


if __name__ == "__main__":
    main()
