"""Rulesets as nft and iptables print them, of many namespaces at once.

`printer` does it, in processes of its own: one a processor, and none where there are no rules.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from linkspan.kernel.netfilter import printer

_TIMEOUT = 30.0
_SHARE = 8
"""Namespaces that are worth one more process."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace to print: by path, None for the calling thread's own.

    `nft` says whether there are tables of nf_tables; `saved` and `legacy` are the commands that
    print iptables' own tables, by family.
    """

    name: str
    path: str | None
    nft: bool
    saved: Mapping[str, list[list[str]]] = {}
    legacy: Mapping[str, list[list[str]]] = {}


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """What was printed of one namespace. `json` and `lines` are nft's, b"" when it failed.

    `gone` says that there is no such namespace any more; `failed` what is missing and why.
    """

    name: str
    json: bytes = b""
    lines: bytes = b""
    saved: Mapping[str, bytes] = {}
    legacy: Mapping[str, bytes] = {}
    gone: bool = False
    failed: tuple[str, ...] = ()


def print_rulesets(jobs: Sequence[Job], descriptors: Iterable[int] = ()) -> list[Printed]:
    """Print the rulesets of namespaces; `descriptors` are files that paths refer to.

    Where the library crashes, or hangs, the program `nft` does the rest.
    """
    if not jobs:
        return []
    count = max(1, min(len(os.sched_getaffinity(0)), len(jobs) // _SHARE))
    shares = [jobs[number::count] for number in range(count)]
    done = _run(shares, descriptors, [])
    missing = [job for job in jobs if job.name not in done]
    if missing:
        done |= _run([missing], descriptors, ["--programs"])
    return [
        done.get(job.name) or Printed(name=job.name, failed=("nft gave no answer in time",))
        for job in jobs
    ]


def _run(
    shares: Sequence[Sequence[Job]], descriptors: Iterable[int], options: list[str]
) -> dict[str, Printed]:
    command = [sys.executable, "-I", "-S", printer.__file__, *options]
    started = []
    for share in shares:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            pass_fds=tuple(descriptors),
        )  # fmt: skip
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(msgspec.json.encode(share))
        process.stdin = None
        started.append(process)
    found: dict[str, Printed] = {}
    for process in started:
        try:
            output, _ = process.communicate(timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        for row in _read(output):
            found[row["name"]] = Printed(
                name=row["name"], json=row.get("json", b""), lines=row.get("lines", b""),
                saved=row.get("saved", {}), legacy=row.get("legacy", {}),
                gone=row.get("gone", False), failed=tuple(row["failed"]),
            )  # fmt: skip
    return found


def _read(output: bytes) -> list[dict[str, Any]]:
    """The rows of a printer, as far as it came."""
    found: list[dict[str, Any]] = []
    view = memoryview(output)
    while view:
        size = int.from_bytes(view[:8], "little")
        if len(view) < 8 + size:
            break
        found.append(marshal.loads(view[8 : 8 + size]))
        view = view[8 + size :]
    return found
