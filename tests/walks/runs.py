"""Many worlds at once: processes that each make worlds in namespaces of their own.

A world mostly waits (for packets that never come, for the kernel's locks), so there are more
processes than processors. `python -m walks --help` runs them by hand.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from walks.shrinking import PATIENCE, shrink
from walks.worlds import compare, in_kernel, make_flows, make_world

A_WORLD = 60
"""Flows that are tried in one world."""
JOBS = 3 * (os.cpu_count() or 1)
LONGEST = 60
"""Seconds that a world may take."""
_NEWNS, _NEWNET = 0x00020000, 0x40000000  # include/uapi/linux/sched.h
_PRIVATE = 0x4000 | (1 << 18)  # MS_REC | MS_PRIVATE: include/uapi/linux/mount.h
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Result:
    """What came of one world: its flows, how many answers were certain, and what differed."""

    seed: int
    flows: int
    said: int
    differences: tuple[str, ...] = ()
    shrunk: str = ""

    def __str__(self) -> str:
        shown = "\n".join(self.differences)
        return f"world of seed {self.seed}:\n{shown}\n\nshrunk to:\n{self.shrunk}"


def run_worlds(
    seeds: Iterable[int], flows: int = A_WORLD, jobs: int = JOBS, shrinking: bool = True
) -> Iterator[Result]:
    """The result of every seed's world, as they come."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _enter_own_mounts) as pool:
        waiting = [pool.submit(run_world, seed, flows, shrinking) for seed in seeds]
        for one in as_completed(waiting):
            yield one.result()


def run_world(seed: int, flows: int = A_WORLD, shrinking: bool = True) -> Result:
    """Make the world of a seed, ask, and compare. For the first thread of a process, which is
    in a new namespace afterwards.
    """
    _unshare(_NEWNET)
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LONGEST + (int(PATIENCE) if shrinking else 0))
    home = f"/proc/{os.getpid()}/ns/net"
    try:
        world = make_world(seed)
        with in_kernel(world, home) as made:
            said, differences = compare(made, make_flows(seed, world, flows))
        shrunk = shrink(world, differences[0].probe, home) if differences and shrinking else ""
    except Exception:
        return Result(seed, flows, 0, (traceback.format_exc(),))
    finally:
        signal.alarm(0)
    return Result(seed, flows, said, tuple(map(str, differences)), shrunk)


def _give_up(number: int, frame: object) -> None:
    raise TimeoutError(f"a world took longer than {LONGEST} s")


def _enter_own_mounts() -> None:
    """Mounts of worlds go with this process, however it ends."""
    _unshare(_NEWNS)
    if _libc.mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None):
        raise OSError(ctypes.get_errno(), "making mounts private")


def _unshare(what: int) -> None:
    if _libc.unshare(what):
        raise OSError(ctypes.get_errno(), "leaving a namespace: root is needed")
