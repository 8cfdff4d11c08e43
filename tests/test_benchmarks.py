"""How benchmarks judge and report; what they measure is up to scripts/bench."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from benchmarks.measure import Goal, Measured, Results, absolute, alternate, as_long, faster
from benchmarks.report import END, START, print_table, rewrite_docs, write_json


def measured(name: str, *milliseconds: float) -> Measured:
    return Measured.of(name, [one / 1000 for one in milliseconds])


@pytest.fixture
def results() -> Results:
    ours, theirs = measured("linkspan", 2, 3, 4), measured("their program", 30, 60, 90)
    rows = (
        faster("attach", ours, theirs, Goal(at_least=10, aim=30, higher_is_better=True)),
        as_long("attach", ours, measured("floor", 1, 1, 1), Goal(at_least=2, aim=1.3)),
        absolute("list", ours, Goal(at_least=150, aim=80), theirs),
    )
    return Results(machine={"kernel": "Linux 6.1"}, quick=False, rows=rows, notes=("A note.",))


def test_a_summary_is_a_median_with_its_deciles():
    one = Measured.of("x", [n / 1000 for n in range(1, 101)])
    assert (one.median, one.low, one.high, one.count) == (50.5, 11.0, 90.0, 100)


def test_figures_and_verdicts(results: Results):
    assert [row.figure for row in results.rows] == [20.0, 3.0, 3.0]
    assert [row.verdict for row in results.rows] == ["met", "MISSED", "aim met"]
    assert Goal(aim=2).judge(2.5) == "aim missed"
    assert Goal(at_least=1, aim=1.3, higher_is_better=True).judge(0.9) == "MISSED"


def test_contenders_take_turns_and_nobody_always_follows_the_same_one():
    order: list[str] = []

    def contender(name: str):
        def job(number: int) -> float:
            order.append(f"{name}{number}")
            return 0.0

        return job

    samples = alternate({"a": contender("a"), "b": contender("b")}, 2, first_round=3)
    assert order == ["a3", "b3", "b4", "a4"]
    assert {name: len(row) for name, row in samples.items()} == {"a": 2, "b": 2}


def test_the_docs_get_the_table_between_the_markers(results: Results, tmp_path: Path):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    rewrite_docs(results, page)
    rewrite_docs(results, page)
    text = page.read_text()
    assert text.startswith(f"before\n{START}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert text.count("| attach |") == 2
    assert "| attach | 3.00 ms | their program: 60.0 ms | 20.0 x faster | 10x | 30x | met |" in text
    assert "**MISSED**" in text
    assert "- A note." in text


def test_a_page_without_markers_is_left_alone(results: Results, tmp_path: Path):
    page = tmp_path / "benchmarks.md"
    page.write_text("nothing to see")
    with pytest.raises(SystemExit):
        rewrite_docs(results, page)
    assert page.read_text() == "nothing to see"


def test_the_table_names_goals_only_where_there_are_some(results: Results):
    bare = as_long("detach", measured("linkspan", 5), measured("floor", 4))
    text = print_table((*results.rows, bare))
    assert "at least 10x, aim 30x: met" in text
    assert text.splitlines()[-1].strip() == "-> 1.25 x as long"


def test_json_holds_everything(results: Results, tmp_path: Path):
    path = tmp_path / "figures.json"
    write_json(results, path)
    assert json.loads(path.read_text())["rows"][0]["ours"]["median"] == 3.0
    assert msgspec.json.decode(path.read_bytes(), type=Results) == results
