"""The cgroups of a container: who is in them, and removing what the runtime left."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from linkspan.engine.runtime.bundle import cgroup_of
from linkspan.engine.runtime.overlay import read_mounts


def find_cgroups(id: str) -> list[Path]:
    """The directories of a container's cgroup, one in each hierarchy that has it."""
    roots = {found.target for found in read_mounts() if found.kind in ("cgroup", "cgroup2")}
    places = (Path(root + cgroup_of(id)) for root in sorted(roots))
    return [place for place in places if place.is_dir()]


def find_members(id: str) -> set[int]:
    """The process ids in a container's cgroups and the cgroups below them."""
    members: set[int] = set()
    for top in find_cgroups(id):
        for place, _, _ in os.walk(top):
            with contextlib.suppress(OSError):
                members.update(map(int, Path(place, "cgroup.procs").read_text().split()))
    return members


def remove_cgroups(id: str) -> list[str]:
    """Remove a container's cgroups, inner ones first; answers what could not be removed.

    The runtime does this itself, unless it was killed before it had noted that it made them.
    """
    failures = []
    for top in find_cgroups(id):
        for place, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(place)
            except FileNotFoundError:
                pass
            except OSError as error:
                failures.append(f"{place}: {error.strerror}")
    return failures
