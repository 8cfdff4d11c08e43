"""Changes on their way: cut into rows that are carried out together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from linkspan.dataplane.diff import Add, Change, Operation, Remove, Replace
from linkspan.dataplane.objects import HOST, Element, Namespace, Object, Sysctl
from linkspan.dataplane.rules import Table


def subject(operation: Operation) -> Object:
    """The object that an operation is about, as it is wanted."""
    return operation.new if isinstance(operation, Replace) else operation.object


def channel_of(item: Object) -> str:
    """The way into the kernel for an object; what shares one may share a datagram."""
    if isinstance(item, (Table, Element)):
        return "firewall"
    if isinstance(item, Sysctl):
        return "sysctl"
    if isinstance(item, Namespace):
        return "namespace"
    return "route in host" if item.namespace == HOST else "route inside"


class Run:
    """One change on its way: the rows still to do, what is done, and what failed first."""

    __slots__ = ("_rows", "done", "error")

    def __init__(self, change: Change, singly: bool = False) -> None:
        """With `singly` every operation is a row of its own."""
        self.error: Exception | None = None
        self.done: list[Operation] = []
        rows: list[tuple[str, list[Operation]]] = []
        last = ("", "")
        for operation in change:
            item = subject(operation)
            channel = channel_of(item)
            here = (channel, item.namespace)
            if here != last or singly:
                rows.append((channel, []))
                last = here
            rows[-1][1].append(operation)
        rows.reverse()
        self._rows = rows

    @property
    def channel(self) -> str | None:
        """The channel of the next row; None when all is done."""
        return self._rows[-1][0] if self._rows else None

    def take_row(self) -> list[Operation]:
        """The next row, without what an earlier failure has made pointless."""
        row = self._rows.pop()[1]
        return row if self.error is None else [item for item in row if self.may(item)]

    def fail(self, error: Exception) -> None:
        """Keep the first error. Only removals go on after it."""
        if self.error is None:
            self.error = error

    def undoing(self) -> Change:
        """The change that takes back what was done, as far as that can be: what was removed
        stays removed.
        """
        change: list[Operation] = []
        for operation in reversed(self.done):
            match operation:
                case Add(item):
                    change.append(Remove(item))
                case Replace(old, new):
                    change.append(Replace(new, old))
        return tuple(change)

    def may(self, operation: Operation) -> bool:
        """Whether an operation is still to be done."""
        return self.error is None or isinstance(operation, Remove)


def cut_where_related(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """The changes in order, cut wherever one has an object in common with those before."""
    wave: list[Change] = []
    seen: set[object] = set()
    for change in changes:
        keys = {subject(operation).key for operation in change} if len(changes) > 1 else set()
        if wave and not seen.isdisjoint(keys):
            yield wave
            wave, seen = [], set()
        wave.append(change)
        seen |= keys
    if wave:
        yield wave
