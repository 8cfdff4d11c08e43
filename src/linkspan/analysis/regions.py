"""Classes of packets that have one fate, found by walking.

A box of headers is taken apart: one packet of it is walked, which tells how far its answer
holds; what is left is taken apart in the same way, until nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

import msgspec

from linkspan.analysis.addresses import to_text
from linkspan.analysis.flow import EPHEMERAL, PROTOCOL_NAMES, Flow
from linkspan.analysis.headers import FIELDS, Headers, intersect, subtract
from linkspan.analysis.intervals import Intervals
from linkspan.analysis.journey import Stranger
from linkspan.analysis.trace import Answer
from linkspan.analysis.traced import Region
from linkspan.analysis.view import View
from linkspan.analysis.walk import MOST_WAYS, trace_flow

T = TypeVar("T")
MOST_CLASSES = 20_000
"""Classes that are walked at most; what is left then is said."""


class Class(NamedTuple):
    """Packets that a walk treats alike, and what becomes of them: the answer is worked out for
    one of them, and is right for each.
    """

    headers: Headers
    answer: Answer


class Explored(NamedTuple):
    """A box taken apart: disjoint classes, and what was not looked at (empty: that is all)."""

    classes: list[Class]
    rest: list[Headers]

    @property
    def complete(self) -> bool:
        """Whether the classes are the whole box."""
        return not self.rest


class Sender(NamedTuple):
    """Who sends: a process in a namespace, or a stranger on the segment of a link there.

    `towards` is the MAC that the stranger's frames are for; None: of who has the address.
    """

    namespace: str
    link: str | None = None
    towards: str | None = None
    mark: int = 0


def explore_headers(
    view: View, namespace: str, headers: Headers, stranger: Stranger | None = None,
    link: str | None = None, towards: str | None = None, preferred: Mapping[str, int] | None = None,
    most: int = MOST_CLASSES, limit: int = MOST_WAYS,
) -> Explored:  # fmt: skip
    """All classes of packets among some headers; the parts of one class have the same answer.

    A process in `namespace` sends them, or a stranger on the segment of `link`; without a link
    `headers.source` None lets the kernel choose the source. `preferred` are values by field
    ("source", "destination", ...) that make good representatives. At most `most` packets are
    walked. Raises NotFound for a namespace or link that the plane does not have.
    """
    sender = Sender(namespace, link, towards)

    def walk(values: Mapping[str, int]) -> tuple[Headers, Answer]:
        region, flow = begin(headers, sender, values)
        answer = trace_flow(view, namespace, flow, stranger, limit, region=region, towards=towards)
        return narrowed(headers, region), answer

    search = Search(walk, [headers], preferred or {}, most)
    return Explored([Class(part, answer) for part, answer in search], search.waiting)


class Search(Generic[T]):
    """Takes boxes apart. `walk` is given the values of one packet, and gives the box of all
    packets for which its result is right, whether they were asked for or not: what is asked
    later may already be answered.
    """

    def __init__(
        self, walk: Callable[[Mapping[str, int]], tuple[Headers, T]], boxes: list[Headers],
        preferred: Mapping[str, int], most: int,
    ) -> None:  # fmt: skip
        self.waiting = list(boxes)
        """Disjoint boxes that are still to do, the next one last."""
        self.walks = 0
        self._walk = walk
        self._most = most
        self._preferred = preferred
        self._found: dict[int | None, list[tuple[Headers, T]]] = {None: []}

    def __iter__(self) -> Iterator[tuple[Headers, T]]:
        """Disjoint boxes with the result for each of their packets, until all is done or too
        much was walked.
        """
        while self.waiting:
            box = self.waiting.pop()
            if box.empty:
                continue
            values = representative(box, self._preferred)
            found = self._recall(values)
            if found is None:
                if self.walks >= self._most:
                    self.waiting.append(box)
                    return
                self.walks += 1
                found = self._walk(values)
                ports = found[0].destination_port
                self._found.setdefault(ports.first if ports.count == 1 else None, []).append(found)
            taken = intersect(box, found[0])
            assert taken is not None
            self.waiting.extend(subtract(box, taken))
            yield taken, found[1]

    def _recall(self, values: Mapping[str, int]) -> tuple[Headers, T] | None:
        """The result of an earlier walk, if it is right for these values as well."""
        port = values["destination_port"]
        source, destination = values.get("source"), values["destination"]
        for key in (port, None):
            for found in self._found.get(key, ()):
                if found[0].holds(source, values["source_port"], destination, port):
                    return found
        return None


def representative(box: Headers, preferred: Mapping[str, int]) -> dict[str, int]:
    """The values of one packet of a box, by field."""
    return {
        name: choose(values, name, preferred)
        for name in FIELDS
        if (values := getattr(box, name)) is not None
    }


def begin(box: Headers, sender: Sender, values: Mapping[str, int]) -> tuple[Region, Flow]:
    """A region that is the whole box, and the flow of one packet in it."""
    source = values.get("source")
    flow = Flow(
        source=None if source is None else to_text(source, box.version),
        source_port=values["source_port"],
        destination=to_text(values["destination"], box.version),
        destination_port=values["destination_port"],
        protocol=PROTOCOL_NAMES.get(box.protocol, str(box.protocol)),
        mark=sender.mark,
        link=sender.link,
    )
    return Region({name: getattr(box, name) for name in values}, values), flow


def narrowed(box: Headers, region: Region) -> Headers:
    """The part of a box that a walk's region is now."""
    return msgspec.structs.replace(box, **region.held)


def choose(values: Intervals, name: str, preferred: Mapping[str, int]) -> int:
    """An ordinary value: the preferred one, else one inside of the widest interval rather than
    at its edge, where networks have their special addresses.
    """
    wanted = preferred.get(name, EPHEMERAL if name == "source_port" else None)
    if wanted is not None and wanted in values:
        return wanted
    first, last = max(values, key=lambda span: span[1] - span[0])
    return first + 1 if last - first > 1 else first
