"""One packet's way as visits of namespaces: out of a walk, and out of what was seen.

Both say the same things: which link it came in and left by, with which headers, which rules
held. What a side does not know stays None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import msgspec

from linkspan.analysis.flow import Flow
from linkspan.analysis.trace import Disposition, Step, Trace
from linkspan.analysis.view import View
from linkspan.dataplane.links import Bridge
from linkspan.dataplane.sightings import Headers, Ruling, Sighting

_LEAVES_BY = re.compile(r"leaves by (\S+) of ")
_CROSSES = re.compile(r"to (\S+) of (.+)")
_LOOPBACK = "lo"
_AGAIN = 0.5
"""Seconds after which a frame on the same link is one that was sent again (TCP waits 1 s, RFC
6298), and not one that goes in circles."""
_WITH_END = frozenset(("deliver", "end"))


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """A packet's stay in a namespace, between two links.

    `came_by` is None where it was sent there, or that is not known. `rules` are those that
    held, as explanations name them; `stopped_by` the rule or policy that ended it.
    """

    namespace: str
    came_by: str | None = None
    left_by: str | None = None
    entered: Headers | None = None
    left: Headers | None = None
    rules: tuple[str, ...] = ()
    stopped_by: str | None = None


class _Open:
    """A visit while it is put together."""

    def __init__(self, namespace: str, came_by: str | None, entered: Headers | None) -> None:
        self.namespace = namespace
        self.came_by = came_by
        self.entered = entered
        self.left_by: str | None = None
        self.left: Headers | None = None
        self.copies: list[str] = []
        """Ports of a bridge by which it left, when the bridge sent it to all."""
        self.rules: list[str] = []
        self.stopped_by: str | None = None

    def close(self, view: View | None = None) -> Visit:
        if view is not None and self.left_by is not None:
            # A bridge itself is no way out: none of its ports took the frame.
            link = view.link(self.namespace, self.left_by)
            if link is not None and isinstance(link.kind, Bridge):
                self.left_by = None
        return Visit(
            namespace=self.namespace, came_by=self.came_by, left_by=self.left_by,
            entered=self.entered, left=self.left, rules=tuple(self.rules),
            stopped_by=self.stopped_by,
        )  # fmt: skip


def as_headers(flow: Flow) -> Headers:
    """The headers of a flow."""
    protocol = flow.protocol
    if protocol in ("icmp", "icmpv6") and flow.version == 6:
        protocol = "ipv6-icmp"
    return Headers(
        source=flow.source or "", destination=flow.destination, protocol=protocol,
        source_port=flow.source_port, destination_port=flow.destination_port,
    )  # fmt: skip


# Of a walk ----------------------------------------------------------------------------


def predict_visits(trace: Trace) -> tuple[Visit, ...]:
    """The visits that a walk says."""
    return _Prediction(trace).visits()


class _Prediction:
    """Goes through a trace's steps and cuts them at links."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._done: list[Visit] = []
        self._headers = as_headers(trace.sent)
        self._open: _Open | None = None
        self._inside_tunnel = False

    def visits(self) -> tuple[Visit, ...]:
        for hop in self._trace.hops:
            rewrites = iter(hop.rewrites)
            if not self._inside_tunnel and (
                self._open is None or self._open.namespace != hop.namespace
            ):
                self._begin(hop.namespace, None)
            for step in hop.steps:
                if step.kind == "translate":
                    rewrite = next(rewrites, None)
                    if rewrite is not None and not self._inside_tunnel:
                        self._headers = as_headers(rewrite.after)
                self._take(step, hop.namespace)
        self._finish()
        return tuple(self._done)

    def _take(self, step: Step, namespace: str) -> None:
        if step.kind == "tunnel":
            if self._inside_tunnel:
                self._inside_tunnel = False
                self._begin(namespace, step.object)
            else:
                self._leave(step.object)
                self._finish()
                self._inside_tunnel = True
            return
        visit = self._open
        if self._inside_tunnel or visit is None:
            return
        if step.kind == "rule":
            visit.rules.append(step.object)
        elif step.kind == "receive":
            if visit.came_by is None:
                visit.came_by = step.detail[3:] if step.detail.startswith("by ") else step.object
        elif step.kind == "transmit":
            self._leave(step.object)
            crossing = _CROSSES.fullmatch(step.detail)
            if crossing is not None:
                self._finish()
                self._begin(crossing[2], crossing[1])
        elif step.kind in _WITH_END:
            out = _LEAVES_BY.search(step.line)
            if out is not None:
                self._leave(out[1])

    def _begin(self, namespace: str, came_by: str | None) -> None:
        self._finish()
        self._open = _Open(namespace, came_by, self._headers)

    def _leave(self, link: str) -> None:
        if self._open is not None:
            self._open.left_by, self._open.left = link, self._headers

    def _finish(self) -> None:
        if self._open is not None:
            self._done.append(self._open.close())
        self._open = None


def find_deciding_rule(trace: Trace) -> str | None:
    """The rule, or the chain of the policy, that stopped a packet; None where none did."""
    if trace.disposition not in (Disposition.DROPPED, Disposition.REJECTED):
        return None
    for hop in reversed(trace.hops):
        for step in reversed(hop.steps):
            if step.kind in ("policy", "rule"):
                return step.object
    return None


# Of what was seen ---------------------------------------------------------------------


def see_visits(
    view: View, origin: str | None, sightings: Iterable[Sighting], rulings: Iterable[Ruling],
    part: str,
) -> tuple[Visit, ...]:  # fmt: skip
    """The visits that frames and rules tell of, for one part of a flow.

    `origin` is the namespace that sends it, None where that is not known. Frames on the
    loopback link make no visit. Of a packet that was sent again only the first counts.
    """
    made: list[_Open] = []
    if origin is not None:
        made.append(_Open(origin, None, None))
    frames = [one for one in sightings if one.part == part]
    end = _find_repetition(frames)
    known: set[tuple[object, ...]] = set()
    for one in frames:
        key = _place_of(one)
        if one.at < end and one.link != _LOOPBACK and key not in known:
            known.add(key)
            _see(view, made, one)
    _assign(view, made, [one for one in rulings if one.part == part and one.at < end])
    return tuple(visit.close(view) for visit in made)


def goes_in_circles(sightings: Iterable[Sighting], part: str) -> bool:
    """Whether a frame came by the same link again at once."""
    seen: dict[tuple[object, ...], float] = {}
    for one in sightings:
        if one.part == part and one.at - seen.setdefault(_place_of(one), one.at) > 0:
            if one.at - seen[_place_of(one)] < _AGAIN:
                return True
    return False


def _find_repetition(frames: Sequence[Sighting]) -> float:
    """When the first frame was sent again: what comes then may go another way."""
    first = frames[0] if frames else None
    for one in frames[1:]:
        if first is not None and _place_of(one) == _place_of(first):
            if one.at - first.at > _AGAIN:
                return one.at
    return math.inf


def _place_of(one: Sighting) -> tuple[object, ...]:
    return one.namespace, one.link, one.outgoing, one.headers


def _see(view: View, made: list[_Open], one: Sighting) -> None:
    last = made[-1] if made else None
    here = last is not None and last.namespace == one.namespace
    if one.outgoing:
        copied = _find_copied(view, made, one)
        if copied is not None:
            copied.copies.append(one.link)
            return
        if last is None or not here or not _goes_on(view, last, one):
            last = _Open(one.namespace, None, None)
            made.append(last)
        last.left_by, last.left = one.link, one.headers
    elif one.stray and not _takes_all(view, one):
        return
    elif last is None or not here or last.left_by is not None or last.came_by is None:
        # What comes in above a link that it came in by already, a bridge, is the same stay.
        if last is not None and last.copies:
            _choose_copy(view, last, one)
        made.append(_Open(one.namespace, one.link, one.headers))


def _takes_all(view: View, one: Sighting) -> bool:
    """Whether frames for other MACs matter at a link: a bridge's port, a parent of others."""
    if view.link(one.namespace, one.link) is None:
        return True
    if (one.namespace, one.link) in view.children:
        return True
    return view.place(one.namespace).bridge_of(one.link) is not None


def _find_copied(view: View, made: list[_Open], one: Sighting) -> _Open | None:
    """The stay that a frame left by another port of the same bridge: this one is a copy."""
    if view.link(one.namespace, one.link) is None:
        return None
    place = view.place(one.namespace)
    bridge = place.bridge_of(one.link)
    if bridge is None:
        return None
    for visit in reversed(made):
        if visit.namespace == one.namespace and visit.left == one.headers:
            if visit.left_by is not None and place.bridge_of(visit.left_by) == bridge:
                return visit
    return None


def _choose_copy(view: View, visit: _Open, one: Sighting) -> None:
    """Of the ports that a frame was sent to, the one behind which it was taken."""
    link = view.link(one.namespace, one.link)
    far = None if link is None else view.peer(link)
    if far is not None and far.namespace == visit.namespace and far.name in visit.copies:
        visit.left_by = far.name


def _goes_on(view: View, visit: _Open, one: Sighting) -> bool:
    """Whether a frame that leaves is the one of this stay, maybe by a link below the last."""
    if visit.left_by is None or view.link(one.namespace, one.link) is None:
        return True
    place = view.place(one.namespace)
    if place.bridge_of(one.link) == visit.left_by:
        return True
    upper = place.links.get(visit.left_by)
    return upper is not None and getattr(upper.kind, "parent", None) == one.link


def _assign(view: View, made: list[_Open], rulings: Sequence[Ruling]) -> None:
    """Put each rule into the stay in which it held."""
    for one in rulings:
        candidates = [visit for visit in made if visit.namespace == one.namespace]
        if not candidates:
            continue
        visit = next((v for v in candidates if _fits(view, v, one)), candidates[0])
        if one.kind == "rule" and one.object not in visit.rules:
            visit.rules.append(one.object)
        if one.verdict == "drop":
            visit.stopped_by = one.object


def _fits(view: View, visit: _Open, one: Ruling) -> bool:
    if one.in_link is None:
        return visit.came_by is None
    if visit.came_by is None:
        return False
    if one.in_link == visit.came_by:
        return True
    if view.link(visit.namespace, visit.came_by) is None:
        return False
    return view.place(visit.namespace).bridge_of(visit.came_by) == one.in_link
