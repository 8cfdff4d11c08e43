"""Named points at which a test can stop the program, to see that it recovers.

LINKSPAN_FAILPOINT=NAME kills the process with SIGKILL the first time it reaches the point;
LINKSPAN_FAILPOINT=NAME:raise raises InjectedFailure there instead; NAME:kill@3 and
NAME:raise@3 do so the third time. NAME may end in "*" for every point that starts so.
LINKSPAN_FAILPOINT=@FILE takes such an order from a file while that is there, and counts from the
moment at which it came or changed.
LINKSPAN_FAILPOINT_TRACE=FILE writes a line with each point's name as it is reached.
Without these variables a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from fnmatch import fnmatchcase

VARIABLE = "LINKSPAN_FAILPOINT"
TRACE_VARIABLE = "LINKSPAN_FAILPOINT_TRACE"


class InjectedFailure(Exception):
    """Raised at a point that a test named."""


class _Trap:
    """What the environment asked for."""

    def __init__(self, order: str, trace: str | None) -> None:
        self.file = order[1:] if order.startswith("@") else None
        self.trace = trace
        self._take("" if self.file is not None else order)

    def _take(self, order: str) -> None:
        self.order = order
        self.name, _, action = order.partition(":")
        self.action, _, count = (action or "kill").partition("@")
        self.count = int(count or 1)
        self.reached = 0

    def is_set(self) -> bool:
        """Whether it waits for a point, or writes them down."""
        self._read_file()
        return bool(self.order) or self.trace is not None

    def reach(self, name: str) -> None:
        if self.trace is not None:
            with open(self.trace, "a") as file:
                file.write(name + "\n")
        self._read_file()
        if not self.name or not fnmatchcase(name, self.name):
            return
        self.reached += 1
        if self.reached != self.count:
            return
        if self.action == "raise":
            raise InjectedFailure(name)
        os.kill(os.getpid(), signal.SIGKILL)

    def _read_file(self) -> None:
        if self.file is None:
            return
        try:
            with open(self.file) as file:
                order = file.read()
        except FileNotFoundError:
            order = ""
        if order != self.order:
            self._take(order)


def _read_environment() -> _Trap | None:
    order, trace = os.environ.get(VARIABLE, ""), os.environ.get(TRACE_VARIABLE)
    return _Trap(order, trace) if order or trace else None


_trap = _read_environment()


def reach(name: str) -> None:
    """The program is at the point `name`."""
    if _trap is not None:
        _trap.reach(name)


def arm_from_environment() -> None:
    """Read the variables again, for tests that change them in a running process."""
    global _trap
    _trap = _read_environment()


def armed() -> bool:
    """Whether a test named a point: then operations are carried out one by one."""
    return _trap is not None and _trap.is_set()
