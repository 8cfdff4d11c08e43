"""What a reconciliation or a purge did, in words."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from linkspan.dataplane import Add, Operation, Remove
from linkspan.engine.plans import describe_operation


class Report(msgspec.Struct, frozen=True):
    """What a reconciliation did, a line each."""

    added: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    """Names of sandboxes whose namespace has vanished."""
    failed: tuple[str, ...] = ()
    """What could not be put right, and why."""

    def __bool__(self) -> bool:
        return bool(self.added or self.repaired or self.removed or self.gone or self.failed)

    def lines(self) -> list[str]:
        """Everything, in words."""
        return [
            *self.removed,
            *self.repaired,
            *self.added,
            *(f"sandbox {name} is gone: its namespace has vanished" for name in self.gone),
            *(f"failed: {line}" for line in self.failed),
        ]


class Notes:
    """A report in the making."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self.added: list[str] = []
        self.repaired: list[str] = []
        self.removed: list[str] = []
        self.gone: list[str] = []
        self.failed: list[str] = []

    def note(self, change: Iterable[Operation]) -> None:
        """Operations that were carried out."""
        for operation in change:
            line = describe_operation(operation, self._names)
            if isinstance(operation, Add):
                self.added.append(line)
            elif isinstance(operation, Remove):
                self.removed.append(line)
            else:
                self.repaired.append(line)

    def finish(self) -> Report:
        """The report, each line once."""
        return Report(*(tuple(dict.fromkeys(row)) for row in (
            self.added, self.repaired, self.removed, self.gone, self.failed,
        )))  # fmt: skip
