"""Classes of packets that have one fate, found by walking.

A box of headers is taken apart: one packet of it is walked, which tells how far its answer
holds; what is left is taken apart in the same way, until nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from linkspan.analysis.addresses import to_text
from linkspan.analysis.flow import EPHEMERAL, PROTOCOL_NAMES, Flow
from linkspan.analysis.headers import FIELDS, Headers, subtract
from linkspan.analysis.intervals import Intervals
from linkspan.analysis.journey import Stranger
from linkspan.analysis.trace import Answer
from linkspan.analysis.traced import Region
from linkspan.analysis.view import View
from linkspan.analysis.walk import MOST_WAYS, trace_flow

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
    """All classes of packets among some headers.

    A process in `namespace` sends them, or a stranger on the segment of `link`; without a link
    `headers.source` None lets the kernel choose the source. `preferred` are values by field
    ("source", "destination", ...) that make good representatives. At most `most` classes are
    walked. Raises NotFound for a namespace or link that the plane does not have.
    """
    sender = Sender(namespace, link, towards)
    waiting = [headers]
    found: list[Class] = []
    for one in explore_lazily(view, sender, waiting, stranger, preferred, limit):
        found.append(one)
        if len(found) >= most:
            break
    return Explored(found, waiting)


def explore_lazily(
    view: View, sender: Sender, waiting: list[Headers], stranger: Stranger | None = None,
    preferred: Mapping[str, int] | None = None, limit: int = MOST_WAYS,
    walk: Callable[..., Answer] = trace_flow,
) -> Iterator[Class]:  # fmt: skip
    """The classes of some disjoint boxes, one by one. What is still to do is in `waiting`."""
    while waiting:
        box = waiting.pop()
        if box.empty:
            continue
        region, flow = begin(box, sender, preferred or {})
        answer = walk(
            view, sender.namespace, flow, stranger, limit, region=region, towards=sender.towards
        )
        taken = narrowed(box, region)
        waiting.extend(subtract(box, taken))
        yield Class(taken, answer)


def begin(box: Headers, sender: Sender, preferred: Mapping[str, int]) -> tuple[Region, Flow]:
    """A region that is the whole box, and the flow of one packet in it."""
    held = {name: values for name in FIELDS if (values := getattr(box, name)) is not None}
    chosen = {name: choose(values, name, preferred) for name, values in held.items()}
    source = chosen.get("source")
    flow = Flow(
        source=None if source is None else to_text(source, box.version),
        source_port=chosen["source_port"],
        destination=to_text(chosen["destination"], box.version),
        destination_port=chosen["destination_port"],
        protocol=PROTOCOL_NAMES.get(box.protocol, str(box.protocol)),
        mark=sender.mark,
        link=sender.link,
    )
    return Region(held, chosen), flow


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
