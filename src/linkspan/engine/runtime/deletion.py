"""Removing a container: its processes, the runtime's state and cgroup, its files. Blocks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from linkspan.engine.runtime.cgroups import find_members, remove_cgroups
from linkspan.engine.runtime.conmon import ENVIRONMENT, PATIENCE
from linkspan.engine.runtime.paths import EXIT, ContainerPaths
from linkspan.engine.runtime.processes import (
    find_conmons,
    find_descendants,
    is_alive,
    is_conmon_of,
    is_process_of,
    open_process,
    read_number,
    send_signal,
    wait_until_ended,
)
from linkspan.engine.runtime.programs import Programs
from linkspan.errors import RuntimeFailed

CONMON_PATIENCE = 10.0
"""Seconds that conmon may take to write its last lines after its container was killed."""


def remove_container(
    programs: Programs,
    id: str,
    paths: ContainerPaths,
    *,
    keep_files: bool = False,
    keep_log: bool = False,
) -> None:
    """Kill what runs of a container and remove its traces; goes on past errors.

    `keep_files` keeps what the container wrote, its log and its exit status; `keep_log` keeps
    the log alone.

    Raises:
        RuntimeFailed: says what is left and why.
    """
    failures = []
    for step in (end_processes, remove_runtime_state):
        try:
            step(programs, id, paths)
        except (RuntimeFailed, OSError) as error:
            failures.append(str(error))
    failures.extend(remove_cgroups(id))
    failures.extend(remove_bundle(paths))
    if not keep_files:
        failures.extend(remove_tree(paths.layers if keep_log else paths.state))
    if keep_log and not keep_files:
        (paths.state / EXIT).unlink(missing_ok=True)
    if failures:
        raise RuntimeFailed(f"container {id[:12]} is not removed entirely: {'; '.join(failures)}")


def end_processes(_programs: Programs, id: str, paths: ContainerPaths) -> None:
    """Kill the first process, and the kernel all others in its namespace; wait for the conmons."""
    conmon_pid = read_number(paths.conmon_pid)
    watched = is_alive(conmon_pid, is_conmon_of(paths.bundle))
    is_first = is_process_of(id, conmon_pid if watched else None)
    end_process(read_number(paths.pid), is_first)
    for session in list(paths.execs.iterdir()) if paths.execs.is_dir() else []:
        end_conmon(session)
    end_conmon(paths.bundle)
    for pid in find_members(id):
        end_process(pid, is_process_of(id, None))


def end_conmon(bundle: Path) -> None:
    """Let a conmon write its last lines; one whose process was never made is killed.

    That one waits for its client or for the runtime. The runtime must be gone too, not only
    about to be: it would still be making what is removed next.
    """
    conmons = find_conmons(bundle) if bundle.exists() else []
    gently = (bundle / "pid").exists()
    helpers = [] if gently else [helper for pid in conmons for helper in find_descendants(pid)]
    descriptors = {helper: open_process(helper, lambda _: True) for helper in helpers}
    try:
        for pid in conmons:
            end_process(pid, is_conmon_of(bundle), gently=gently)
        for helper, pidfd in descriptors.items():
            if pidfd is not None:
                kill_and_wait(helper, pidfd)
    finally:
        for pidfd in filter(None, descriptors.values()):
            os.close(pidfd)


def end_process(pid: int | None, recognise: Callable[[int], bool], *, gently: bool = False) -> None:
    """Kill a process and wait for its end; `gently` gives it time to end by itself first.

    Raises:
        RuntimeFailed: it cannot be killed.
    """
    pidfd = open_process(pid, recognise)
    if pid is None or pidfd is None:
        return
    try:
        if not (gently and wait_until_ended(pidfd, CONMON_PATIENCE)):
            kill_and_wait(pid, pidfd)
    finally:
        os.close(pidfd)


def kill_and_wait(pid: int, pidfd: int) -> None:
    """Kill a process and wait for its end.

    Raises:
        RuntimeFailed: it cannot be killed.
    """
    if send_signal(pidfd, signal.SIGKILL) and not wait_until_ended(pidfd, CONMON_PATIENCE):
        raise RuntimeFailed(f"process {pid} does not end, although it was killed")


def remove_runtime_state(programs: Programs, id: str, paths: ContainerPaths) -> None:
    """Let the runtime remove its state and the cgroup.

    Raises:
        RuntimeFailed: holds the runtime's reason.
    """
    if not paths.oci.exists():
        return
    result = run_runtime(programs, paths, "delete", "--force", id)
    if result and paths.oci.exists():
        raise RuntimeFailed(result)


def run_runtime(programs: Programs, paths: ContainerPaths, *arguments: str) -> str:
    """Run one command of the runtime; answers what it complained of, empty if all went well."""
    result = subprocess.run(
        [programs.runtime, f"--root={paths.oci.parent}", *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    if result.returncode == 0:
        return ""
    said = (result.stderr + result.stdout).decode(errors="replace").strip()
    return said or f"{programs.runtime} {arguments[0]}: status {result.returncode}"


def remove_bundle(paths: ContainerPaths) -> list[str]:
    """Remove the bundle; answers what could not be removed.

    The root file system goes first, and only if it is empty: were something mounted there,
    removing all below it would reach the host's files.
    """
    try:
        paths.rootfs.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        return [f"{paths.rootfs}: {error.strerror}"]
    return remove_tree(paths.bundle)


def remove_tree(place: Path) -> list[str]:
    """Remove a directory and all in it; answers what could not be removed."""
    failures: list[str] = []

    def note(_function: object, path: str, info: tuple[object, BaseException, object]) -> None:
        if not isinstance(info[1], FileNotFoundError):
            failures.append(f"{path}: {info[1]}")

    shutil.rmtree(place, onerror=note)
    return failures[:3]
