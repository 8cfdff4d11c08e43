"""Runs the benchmarks that were asked for, one after another, each in a fresh laboratory."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from benchmarks.machine import describe_machine
from benchmarks.measure import Results, Row, Size, Subject
from benchmarks.report import print_table, rewrite_docs, write_json
from lab import Lab

SUBJECTS = (
    "attach",
    "docker_connect",
    "live",
    "crowd",
    "clients",
    "ranges",
    "connections",
    "underlay",
    "names",
    "memory",
    "commands",
    "observe",
    "reach",
    "exposed",
)
LIMIT = 420
"""Seconds that one subject may take."""


def main() -> int:
    """Measure, print, write; the exit status says whether every benchmark could run."""
    arguments = read_arguments()
    if os.geteuid() != 0:
        print("scripts/bench: needs root for network namespaces", file=sys.stderr)
        return 1
    size = Size(quick=arguments.quick)
    machine = describe_machine()
    for name, value in machine.items():
        print(f"{name:14} {value}")
    rows: list[Row] = []
    notes: list[str] = []
    failed: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in arguments.only or SUBJECTS:
        print(f"\n{name}", flush=True)
        start = time.monotonic()
        try:
            subject = run_subject(name, size)
        except Exception as error:
            print(f"  failed: {type(error).__name__}: {error}", file=sys.stderr)
            failed.append(name)
            continue
        print(print_table(subject.rows))
        for note in subject.notes:
            print(f"  {note}")
        print(f"  ({time.monotonic() - start:.0f} s)", flush=True)
        rows += subject.rows
        notes += subject.notes
    results = Results(machine=machine, quick=size.quick, rows=tuple(rows), notes=tuple(notes))
    if arguments.json:
        write_json(results, arguments.json)
    if arguments.write_docs and not failed:
        rewrite_docs(results)
    missed = [row.job for row in rows if row.verdict == "MISSED"]
    print(
        f"\n{len(rows)} figures; below what they should at least be: {'; '.join(missed) or 'none'}"
    )
    if failed:
        print(f"could not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller numbers")
    parser.add_argument(
        "--only",
        action="append",
        choices=SUBJECTS,
        metavar="NAME",
        help=f"only this subject; may be repeated: {', '.join(SUBJECTS)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument(
        "--write-docs", action="store_true", help="put the measured table into docs/benchmarks.md"
    )
    return parser.parse_args()


class TooLong(Exception):
    """A subject took more than its time."""


def run_subject(name: str, size: Size) -> Subject:
    """One subject in a lab of its own, within the time limit."""

    def stop(_: int, __: FrameType | None) -> None:
        raise TooLong(f"took more than {LIMIT} s")

    run = importlib.import_module(f"benchmarks.{name}").run
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab())
        stack.callback(signal.alarm, 0)
        subject = run(lab, size)
        assert isinstance(subject, Subject)
        return subject


if __name__ == "__main__":
    sys.exit(main())
