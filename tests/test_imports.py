"""The rules of the house that a program can check: who imports whom, sizes, and words."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "linkspan"
LONGEST_FILE = 400

FLOOR = {"errors"}
FACTS = FLOOR | {"dataplane"}
MIDDLE = FACTS | {"drivers", "analysis", "kernel", "inventory"}
SERVICES = MIDDLE | {"engine", "names", "cluster"}
TOP = SERVICES | {"api"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "dataplane": FLOOR,
    "drivers": FACTS,
    "analysis": FACTS,
    "kernel": FACTS,
    "inventory": FACTS,
    "engine": MIDDLE,
    "names": MIDDLE,
    "cluster": MIDDLE,
    "api": SERVICES,
    "doors": TOP,
    "cli": TOP,
    "web": TOP,
    "__init__": set(),
    "__main__": {"cli"},
}
"""For each room, or file beside the rooms, the rooms that it may import besides itself."""

WORKPLACE_PATHS = re.compile(r"(?<![\w.-])(/work/(main|shared|\.)|/tmp/(ls|v)/)")


def room_of(name: str) -> str:
    """The room of a dotted name; the package itself is its `__init__`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported_names(path: Path, parts: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a file imports, at its top or late; `parts` is its home."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) - node.level + 1] if node.level else ()
            source = ".".join([*above, *([node.module] if node.module else [])])
            if source != "linkspan":
                yield node.lineno, source
                continue
            for alias in node.names:  # `from linkspan import kernel` imports a room
                inside = alias.name in MAY_IMPORT
                yield node.lineno, f"linkspan.{alias.name}" if inside else "linkspan"


def broken_rules(package: Path) -> list[str]:
    """One line for each import that a room may not make, and for each undeclared room."""
    found: list[str] = []
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package.parent)
        room = room_of(".".join(where.with_suffix("").parts))
        if room not in MAY_IMPORT:
            found.append(f"{where}: {room!r} is no known room; see MAY_IMPORT")
            continue
        for line, name in imported_names(path, where.parent.parts):
            if name.split(".")[0] != "linkspan":
                continue
            target = room_of(name)
            # The package's own file holds the version and imports nothing.
            if target not in MAY_IMPORT[room] | {room, "__init__"}:
                found.append(f"{where}:{line}: {room} may not import {target} ({name})")
    return found


def test_rooms_import_only_what_lies_below_them():
    assert broken_rules(PACKAGE) == []


@pytest.mark.parametrize(
    ("room", "statement"),
    [
        ("drivers", "from linkspan.kernel import apply"),
        ("drivers", "from linkspan import kernel"),
        ("analysis", "def late():\n    import linkspan.kernel.wire"),
        ("dataplane", "from ..drivers import bridge"),
        ("engine", "from linkspan.api import server"),
        ("api", "from linkspan.cli import main"),
        ("gadgets", "import json"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, room: str, statement: str):
    package = tmp_path / "linkspan"
    (package / room).mkdir(parents=True)
    (package / room / "thing.py").write_text(statement + "\n")
    assert len(broken_rules(package)) == 1


def test_no_file_is_too_long_to_read():
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    too_long = {str(path): count for path, count in lengths.items() if count > LONGEST_FILE}
    assert not too_long, f"more than {LONGEST_FILE} lines: split by subject"


def tracked_texts() -> Iterator[tuple[Path, str]]:
    """Every text file that git knows, or every file of the tree where there is no git."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        folders = ("src", "tests", "docs", "scripts", "packaging", "benchmarks")
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    for path in paths:
        if path.is_file() and path != Path(__file__).resolve():
            try:
                yield path.relative_to(ROOT), path.read_text()
            except UnicodeDecodeError:
                continue


def test_the_text_speaks_of_the_project_alone():
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if WORKPLACE_PATHS.search(line)
    ]
    assert found == []
