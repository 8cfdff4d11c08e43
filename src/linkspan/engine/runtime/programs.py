"""Finding the programs that run containers: runc or crun, and conmon."""

from __future__ import annotations

import os
import shutil

import msgspec

from linkspan.errors import Unsupported

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Searched after the daemon's own PATH, which may lack the sbin folders."""

VARIABLE = "LINKSPAN_RUNTIME"


class Programs(msgspec.Struct, frozen=True):
    """Absolute paths of the OCI runtime and of conmon."""

    runtime: str
    conmon: str

    @property
    def is_crun(self) -> bool:
        """Whether the runtime takes crun's options where they differ from runc's."""
        return os.path.basename(self.runtime).startswith("crun")


def find_programs(runtime: str | None = None) -> Programs:
    """The programs to use: `runtime` if given, else LINKSPAN_RUNTIME, else runc, else crun.

    runc goes first because crun refuses hosts that mount both cgroup versions with controllers
    on each.

    Raises:
        Unsupported: one is not installed; names the package.
    """
    wanted = runtime or os.environ.get(VARIABLE) or ""
    found = next(filter(None, map(find_program, [wanted] if wanted else ["runc", "crun"])), None)
    if found is None and wanted:
        raise Unsupported(f"container runtime {wanted!r} is not installed or not executable")
    if found is None:
        raise Unsupported("no container runtime is installed: install the package runc or crun")
    conmon = find_program("conmon")
    if conmon is None:
        raise Unsupported("conmon is not installed: install the package conmon")
    return Programs(found, conmon)


def find_program(name: str) -> str | None:
    """The absolute path of an executable, or None."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":" + SEARCH_PATH)
    return os.path.abspath(found) if found else None
