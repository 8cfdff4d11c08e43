"""Says what a run of the tests left on the machine.

    python tests/leftovers.py record > FILE      before
    python tests/leftovers.py compare FILE       after; fails when something is left

Looks at named namespaces, the links and nftables tables of this namespace, mounts of
namespaces, and the processes of linkspan and conmon. On a shared machine others make such
things too: what bears the mark of this run (LINKSPAN_TEST_RUN, in a name, path, command line
or environment) is ours. Links and tables of this namespace are never a test's business, so a
new one counts whoever made it. In CI the machine is ours alone, and everything new counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

Found = dict[str, dict[str, bool]]
"""Kind of thing -> description -> whether it bears the mark of this run."""

MARK = os.environ.get("LINKSPAN_TEST_RUN", "")
STRICT = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def output_of(*command: str) -> str:
    """What a program prints, or nothing where it is missing or refuses (without root)."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except OSError:
        return ""


def bears_mark(text: str) -> bool:
    """Whether the mark of this run is in it."""
    return bool(MARK) and MARK in text


def find_processes() -> dict[str, bool]:
    """Processes of linkspan, conmon, or anything that a test of this run started."""
    found: dict[str, bool] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in {os.getpid(), os.getppid()}:
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            environment = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:  # ended meanwhile, or another user's
            continue
        command = " ".join(words).strip()
        program = Path(words[0]).name
        is_daemon = program in {"linkspan", "conmon"} or "-m linkspan" in command
        ours = bears_mark(command) or (bears_mark(environment) and program != "bash")
        if command and (is_daemon or ours):
            found[f"process {entry.name}: {command}"] = ours
    return found


def find_mounts() -> dict[str, bool]:
    """Namespace files, and whatever is mounted in a folder of this run."""
    found: dict[str, bool] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4]
        if right.split(" ")[0] == "nsfs" or bears_mark(point):
            found[f"mount {point}"] = bears_mark(point)
    return found


def find_everything() -> Found:
    """All that a test could leave behind, as it is now."""
    namespaces = [line.split()[0] for line in output_of("ip", "netns", "list").splitlines()]
    links = json.loads(output_of("ip", "-json", "link") or "[]")
    tables = output_of("nft", "list", "tables").splitlines()
    folders = Path("/tmp").glob("lst-*")
    return {
        "namespaces": {f"namespace {name}": bears_mark(name) for name in namespaces},
        "links": {f"link {link['ifname']}": True for link in links},
        "tables": {f"nftables {line}": True for line in tables},
        "folders": {f"folder {path}": bears_mark(str(path)) for path in folders},
        "mounts": find_mounts(),
        "processes": find_processes(),
    }


def compare(before: Found, after: Found, strict: bool) -> tuple[list[str], list[str]]:
    """What is new and ours, and what is new and somebody else's."""
    ours: list[str] = []
    others: list[str] = []
    for kind, things in after.items():
        for name, marked in things.items():
            if name not in before.get(kind, {}):
                (ours if marked or strict else others).append(name)
    return ours, others


def main(arguments: list[str]) -> int:
    """Record to standard output, or compare with a record."""
    match arguments:
        case ["record"]:
            print(json.dumps(find_everything()))
            return 0
        case ["compare", path]:
            ours, others = compare(json.loads(Path(path).read_text()), find_everything(), STRICT)
            for name in others:
                print(f"not of this run, but new meanwhile: {name}")
            for name in ours:
                print(f"LEFT BEHIND: {name}")
            if not ours:
                print("nothing was left behind")
            return 1 if ours else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
