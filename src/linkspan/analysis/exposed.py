"""What strangers reach: every address, port and protocol at which something on a host answers.

A stranger is on the segment of one of the host's links to the outside, sends from any address,
and to any MAC there, whatever the packet's destination is. All such packets are walked, class by
class (regions); those that arrive at a socket are exposed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from linkspan.analysis import ip
from linkspan.analysis.addresses import to_number
from linkspan.analysis.admission import refused_sources
from linkspan.analysis.exposures import (
    Arrival,
    Asked,
    Exposure,
    Passage,
    Target,
    Unclear,
    describe_sources,
    gather,
)
from linkspan.analysis.flow import PROTOCOLS, join
from linkspan.analysis.headers import (
    ALL_ADDRESSES,
    Headers,
    address_texts,
    prefix_intervals,
)
from linkspan.analysis.intervals import NOTHING, Intervals, to_intervals, to_points
from linkspan.analysis.openers import Openers, find_opener, has_firewall
from linkspan.analysis.reach_ends import find_outside
from linkspan.analysis.regions import Search, Sender, begin, choose, narrowed
from linkspan.analysis.segments import Receiver, find_receivers, find_segments
from linkspan.analysis.trace import Answer, Confidence, Disposition, Trace, Verdict
from linkspan.analysis.view import View
from linkspan.analysis.walk import trace_flow
from linkspan.dataplane.objects import HOST
from linkspan.dataplane.sockets import Listener
from linkspan.errors import NotFound

MOST_WALKS = 60_000
"""Packets that are walked at most; what is left then is said."""
_MOST_ANSWERS = 2
"""Classes of sources for which the answers are followed: usually who is on the segment, and who
is beyond its gateway."""
_LOOPBACK = (0x7F000000, 0x7FFFFFFF)
_NO_DESTINATION = {
    4: prefix_intervals("0.0.0.0/8") | prefix_intervals("224.0.0.0/4")
    | prefix_intervals("255.255.255.255/32"),
    6: prefix_intervals("ff00::/8") | prefix_intervals("::1/128") | prefix_intervals("::/128"),
}  # fmt: skip
"""Groups and broadcasts, which are not walked, and what no kernel takes from a link."""
_NO_SOURCE = {4: prefix_intervals("0.0.0.0/8"), 6: _NO_DESTINATION[6]}


class Exposed(msgspec.Struct, frozen=True, kw_only=True):
    """What strangers on some segments reach.

    `segments` are the host's links that were asked for; `forwarded` what the host passes on to
    where nobody was observed; `unclear` what cannot be said. `complete` is false where there
    was too much to look at; `rest` then says what was left out.
    """

    segments: tuple[str, ...]
    exposures: tuple[Exposure, ...]
    forwarded: tuple[Passage, ...] = ()
    unclear: tuple[Unclear, ...] = ()
    rest: tuple[str, ...] = ()
    walks: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything was looked at."""
        return not self.rest


class _Question(NamedTuple):
    """What is asked for: whose frames to whom, and the sources that they can have."""

    segment: str
    receiver: Receiver
    sources: Asked
    preferred: dict[str, int]
    box: Headers


class _Walked(NamedTuple):
    """What one walk said: the packets that arrive alike, those whose answers fare alike too."""

    arriving: Headers
    whole: Headers
    answer: Answer
    follows_answers: bool
    """Whether the answers were walked, too: those to pretended sources never come back."""
    values: Mapping[str, int]


def find_exposed(
    view: View, link: str | None = None, protocols: Sequence[str] = ("tcp", "udp", "sctp"),
    most: int = MOST_WALKS,
) -> Exposed:  # fmt: skip
    """Everything that strangers on the segment of `link` reach (None: of all links outside).

    At most `most` packets are walked. Raises NotFound for a link that the host does not have,
    or when it has none to the outside.
    """
    if HOST not in view.namespaces:
        raise NotFound("the data plane has no host namespace")
    if link is not None and view.link(HOST, link) is None:
        raise NotFound(f"the host has no link {link!r}")
    segments = find_segments(view) if link is None else [link]
    if not segments:
        raise NotFound("this host has no link to the outside; name one with --link")
    survey = _Survey(view, most)
    for segment in segments:
        for protocol in _worth_asking(view, protocols):
            for version in (4, 6):
                survey.ask(segment, version, PROTOCOLS[protocol])
    found = gather(survey.arrivals)
    return Exposed(
        segments=tuple(segments),
        exposures=found,
        forwarded=tuple(survey.passages),
        unclear=tuple(survey.unclear),
        rest=tuple(survey.rest),
        walks=survey.walks,
    )


def _worth_asking(view: View, protocols: Sequence[str]) -> list[str]:
    """Protocols for which somebody may listen; for SCTP that is rare."""
    if not view.sockets_known:
        return list(protocols)
    listening = {item.protocol for item in view.plane if isinstance(item, Listener)}
    return [name for name in protocols if name in listening]


class _Survey:
    """Walks the packets of strangers, and keeps those that arrive."""

    def __init__(self, view: View, most: int) -> None:
        self._view = view
        self._most = most
        self._openers = Openers(view)
        self.walks = 0
        self.arrivals: list[Arrival] = []
        self.passages: list[Passage] = []
        self.unclear: list[Unclear] = []
        self.rest: list[str] = []

    def ask(self, segment: str, version: int, protocol: int) -> None:
        """Everything of one IP version and protocol that comes from one segment."""
        outside = find_outside(self._view, frozenset(), segment)
        preferred = {}
        if outside is not None and version in outside.beside:
            preferred["source"] = to_number(outside.beside[version])
        for receiver in find_receivers(self._view, HOST, segment):
            sources = self._sources(segment, receiver, version)
            box = Headers(
                version=version, protocol=protocol, source=sources.usual | sources.pretended,
                destination=ALL_ADDRESSES[version] - _NO_DESTINATION[version],
            )  # fmt: skip
            question = _Question(segment, receiver, sources, preferred, box)
            self._ask(question)

    def _ask(self, question: _Question) -> None:
        whole = question.box

        def walk(values: Mapping[str, int]) -> tuple[Headers, _Walked]:
            usual = values["source"] in question.sources.usual
            walked = self._walk(question, whole, values, usual)
            self._keep(question, walked)
            return walked.arriving, walked

        boxes = [
            msgspec.structs.replace(whole, source=values)
            for values in (question.sources.pretended, question.sources.usual)
        ]
        search = Search(walk, boxes, question.preferred, self._most - self.walks)
        for _ in search:
            pass
        self.rest += [
            f"from {question.segment} to {question.receiver.mac}: {left}" for left in search.waiting
        ]

    def _sources(self, segment: str, receiver: Receiver, version: int) -> Asked:
        """Any source, as far as the receiver takes it at all; those of the host's side apart."""
        everything = ALL_ADDRESSES[version] - _NO_SOURCE[version]
        if version == 4 and not receiver.bridged:
            place = self._view.place(receiver.namespace)
            everything -= refused_sources(place, receiver.link)
        own = everything & self._own_side(segment, version)
        return Asked(everything - own, own)

    def _own_side(self, segment: str, version: int) -> Intervals:
        """The networks of all namespaces but those of a segment, where strangers are as well."""
        view = self._view
        place = view.place(HOST)
        links = {segment, place.bridge_of(segment) or segment}
        here = {one.namespace for one in find_receivers(view, HOST, segment)}
        spans: list[tuple[int, int]] = [_LOOPBACK] if version == 4 else []
        beside: list[tuple[int, int]] = []
        taken: list[int] = []
        for name in view.namespaces:
            for one in view.place(name).addresses:
                if one.version != version:
                    continue
                network = (one.network.network, one.network.last)
                if name == HOST and one.link in links:
                    beside.append(network)
                elif one.scope == "global":
                    spans.append(network)
                if name in here:
                    taken.append(one.number)
        return (to_intervals(spans) - to_intervals(beside)) | to_points(taken)

    def _keep(self, question: _Question, walked: _Walked) -> None:
        """Keep what one walk says of all packets that arrive alike."""
        endings = {trace.disposition for trace in walked.answer.traces}
        if Disposition.DELIVERED in endings:
            self._arrive(question, walked)
        elif Disposition.LEFT in endings:
            self._pass_on(question, walked)
        if Disposition.UNKNOWN in endings:
            self._note_unclear(question, walked)

    def _walk(
        self, question: _Question, whole: Headers, values: Mapping[str, int], answers: bool
    ) -> _Walked:
        sender = Sender(HOST, question.segment, question.receiver.mac)
        region, flow = begin(whole, sender, values)
        region.follows_answers = answers
        self.walks += 1
        answer = trace_flow(self._view, HOST, flow, region=region, towards=question.receiver.mac)
        arriving = region.held if region.arriving is None else region.arriving
        return _Walked(
            msgspec.structs.replace(whole, **arriving),
            narrowed(whole, region),
            answer,
            answers,
            values,
        )

    def _arrive(self, question: _Question, walked: _Walked) -> None:
        """Note packets that arrive, and follow the answers to some more of their senders."""
        trace = next(
            one for one in walked.answer.traces if one.disposition is Disposition.DELIVERED
        )
        answers = [walked]
        left = (_source(walked.arriving) & question.sources.usual) - _source(walked.whole)
        while left and walked.follows_answers and len(answers) < _MOST_ANSWERS:
            box = msgspec.structs.replace(walked.arriving, source=left)
            values = {**walked.values, "source": choose(left, "source", question.preferred)}
            again = self._walk(question, box, values, True)
            left -= _source(again.whole)
            answers.append(again)
        answered = NOTHING
        for one in answers:
            if one.follows_answers and _is_answered(one.answer):
                answered |= _source(one.whole)
        rules = self._openers.used_rules(trace)
        opened = find_opener(trace, rules, HOST, question.receiver.namespace, self._filtered)
        traces = walked.answer.traces
        target = Target(
            segment=question.segment,
            towards=question.receiver.namespace,
            protocol=trace.arrived.protocol,
            namespace=trace.namespace,
            own_address="" if trace.arrived.destination == trace.sent.destination
            else trace.arrived.destination,
            processes=trace.processes,
            opened_by=opened.by,
            relays_to=_relayed(trace),
            confidence=_confidence(walked.answer),
            depends_on=_distinct(one for trace in traces for one in trace.assumed),
            not_understood=_distinct(one for trace in traces for one in trace.not_understood),
        )  # fmt: skip
        own_port = trace.arrived.destination_port
        self.arrivals.append(
            Arrival(
                target, walked.arriving, question.sources,
                None if own_port == trace.sent.destination_port else own_port,
                answered, _answers(answers) if walked.follows_answers else "no", opened, rules,
            )
        )  # fmt: skip

    def _pass_on(self, question: _Question, walked: _Walked) -> None:
        trace = next(one for one in walked.answer.traces if one.disposition is Disposition.LEFT)
        if trace.hops and f"leaves by {question.segment} of {HOST} " in trace.reason:
            return  # it only turns around, on the segment that it came from
        self.passages.append(Passage(**_outline(question, walked, trace)))

    def _note_unclear(self, question: _Question, walked: _Walked) -> None:
        trace = next(one for one in walked.answer.traces if one.disposition is Disposition.UNKNOWN)
        if trace.reason != ip.GROUPS_ARE_NOT_WALKED:
            self.unclear.append(Unclear(**_outline(question, walked, trace)))

    @cached_property
    def _filtered(self) -> bool:
        return has_firewall(self._view, HOST)


def _outline(question: _Question, walked: _Walked, trace: Trace) -> dict[str, Any]:
    box = walked.arriving
    return {
        "segment": question.segment,
        "version": box.version,
        "protocol": trace.sent.protocol,
        "addresses": tuple(address_texts(box.destination, box.version)),
        "ports": tuple(box.destination_port),
        "sources": describe_sources(_source(box), question.sources.usual, box.version),
        "reason": trace.reason,
    }


def _source(box: Headers) -> Intervals:
    assert box.source is not None
    return box.source


def _is_answered(answer: Answer) -> bool:
    return answer.verdict is Verdict.DELIVERED


def _answers(walked: Sequence[_Walked]) -> str:
    """What became of the answers to the first senders, those who do not pretend to be others."""
    verdicts = {one.answer.verdict for one in walked}
    if Verdict.CANNOT_SAY in verdicts:
        return "depends"
    if len(verdicts) > 1:
        return "some"
    return "yes" if verdicts == {Verdict.DELIVERED} else "no"


def _relayed(trace: Trace) -> str:
    if trace.onward is None:
        return ""
    end = trace.onward.first
    where = join(end.arrived.destination, end.arrived.destination_port)
    if trace.onward.verdict is Verdict.DELIVERED:
        return f"{where} in {end.namespace}"
    return f"{where}, which it does not reach: {end.reason}"


def _confidence(answer: Answer) -> Confidence:
    """How sure it is that the packet arrives."""
    endings = {trace.disposition for trace in answer.traces}
    if not answer.complete or len(endings) > 1:
        return Confidence.DEPENDS
    if any(trace.assumed or trace.not_understood for trace in answer.traces):
        return Confidence.ASSUMED
    return Confidence.CERTAIN


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
