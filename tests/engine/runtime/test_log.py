"""Parsing and choosing lines of a container's log, without a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkspan.engine.runtime.log import LogEntry, LogReader, choose_entries, parse_entry, read_log

SECOND = 10**9


def entry(at: int, data: str, stream: str = "stdout") -> LogEntry:
    return LogEntry(at, stream, data.encode())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b"2024-01-01T00:00:01.000000005+00:00 stdout F hello world",
            LogEntry(1704067201 * SECOND + 5, "stdout", b"hello world\n"),
        ),
        (
            b"2024-01-01T02:00:01.000000000+02:00 stderr P part",
            LogEntry(1704067201 * SECOND, "stderr", b"part"),
        ),
        (
            b"2023-12-31T23:00:01.000000000-01:00 stdout F ",
            LogEntry(1704067201 * SECOND, "stdout", b"\n"),
        ),
        (
            b"2024-01-01T00:00:01.000000000Z stdout F \xff\x00",
            LogEntry(1704067201 * SECOND, "stdout", b"\xff\x00\n"),
        ),
        (b"not a line of the log", None),
        (b"", None),
    ],
)
def test_lines_become_entries(line: bytes, expected: LogEntry | None):
    assert parse_entry(line) == expected


def test_the_last_lines_count_parts_once():
    entries = [
        entry(1, "a\n"),
        entry(2, "b"),
        entry(3, "x\n", "stderr"),
        entry(4, "b\n"),
        entry(5, "open"),
    ]
    assert choose_entries(entries, tail=0) == []
    assert choose_entries(entries, tail=1) == entries[4:]
    assert choose_entries(entries, tail=2) == entries[3:]
    assert choose_entries(entries, tail=3) == entries[1:]
    assert choose_entries(entries, tail=9) == entries


def test_since_goes_before_tail():
    entries = [entry(at, f"{at}\n") for at in range(5)]
    assert choose_entries(entries, since=2) == entries[3:]
    assert choose_entries(entries, since=2, tail=1) == entries[4:]


def test_a_reader_goes_on_where_it_was_and_in_the_new_file(tmp_path: Path):
    log = tmp_path / "log"
    reader = LogReader(log)
    assert list(reader.read()) == []
    start = b"2024-01-01T00:00:01.000000000Z stdout F "
    log.write_bytes(start + b"one\n" + start + b"tw")
    assert [found.data for found in reader.read()] == [b"one\n"]
    with log.open("ab") as file:
        file.write(b"o\n")
    fresh = tmp_path / "log.tmp"
    fresh.write_bytes(start + b"three\n")
    fresh.rename(log)
    assert [found.data for found in reader.read()] == [b"two\n", b"three\n"]
    reader.close()


def test_a_log_that_was_never_written_is_empty(tmp_path: Path):
    assert read_log(tmp_path / "log") == []
