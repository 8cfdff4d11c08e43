"""Walking the packets of strangers, class by class, and keeping those that arrive."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from linkspan.analysis import ip
from linkspan.analysis.addresses import to_number
from linkspan.analysis.admission import refused_sources
from linkspan.analysis.exposures import (
    Arrival,
    Asked,
    Passage,
    Target,
    Unclear,
    describe_sources,
)
from linkspan.analysis.flow import join
from linkspan.analysis.headers import (
    ALL_ADDRESSES,
    Headers,
    address_texts,
    prefix_intervals,
)
from linkspan.analysis.intervals import NOTHING, Intervals, to_intervals, to_points
from linkspan.analysis.likenesses import Likenesses
from linkspan.analysis.openers import Openers, find_opener, has_firewall
from linkspan.analysis.reach_ends import find_outside
from linkspan.analysis.regions import Search, Sender, begin, choose, narrowed
from linkspan.analysis.segments import Receiver, find_receivers
from linkspan.analysis.trace import Answer, Confidence, Disposition, Trace, Verdict
from linkspan.analysis.view import View
from linkspan.analysis.walk import trace_flow
from linkspan.dataplane.objects import HOST

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


class NotAlikeError(Exception):
    """Two that were thought to be alike are not: everybody has to be asked about."""


class Question(NamedTuple):
    """What is asked for: whose frames to whom, and the sources that they can have."""

    segment: str
    receiver: Receiver
    sources: Asked
    preferred: dict[str, int]
    box: Headers
    receivers: Mapping[str, Receiver]


class Walked(NamedTuple):
    """What one walk said: the packets that arrive alike, those whose answers fare alike too."""

    arriving: Headers
    whole: Headers
    answer: Answer
    follows_answers: bool
    """Whether the answers were walked, too: those to pretended sources never come back."""
    values: Mapping[str, int]


class Survey:
    """Walks the packets of strangers, and keeps those that arrive."""

    def __init__(self, view: View, most: int, alike: Likenesses | None) -> None:
        self._view = view
        self._alike = alike
        self._most = most
        self._openers = Openers(view)
        self._told: dict[tuple[Hashable, ...], Arrival] = {}
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
        receivers = {one.namespace: one for one in find_receivers(self._view, HOST, segment)}
        for receiver in receivers.values():
            if self._alike is not None and receiver.namespace in self._alike.others:
                continue
            sources = self._sources(segment, receiver, version)
            box = Headers(
                version=version, protocol=protocol, source=sources.usual | sources.pretended,
                destination=ALL_ADDRESSES[version] - _NO_DESTINATION[version],
            )  # fmt: skip
            if self._alike is not None:
                box = self._alike.reduce(box)
            question = Question(segment, receiver, sources, preferred, box, receivers)
            self._ask(question)

    def _ask(self, question: Question) -> None:
        whole = question.box

        def walk(values: Mapping[str, int]) -> tuple[Headers, Walked]:
            usual = values["source"] in question.sources.usual
            walked = self._walk(question, whole, values, usual)
            self._keep(question, walked)
            return walked.arriving, walked

        boxes = [
            msgspec.structs.replace(whole, source=_source(whole) & values)
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

    def _keep(self, question: Question, walked: Walked) -> None:
        """Keep what one walk says of all packets that arrive alike."""
        endings = {trace.disposition for trace in walked.answer.traces}
        if Disposition.DELIVERED in endings:
            self._arrive(question, walked)
        elif Disposition.LEFT in endings:
            self._pass_on(question, walked)
        if Disposition.UNKNOWN in endings:
            self._note_unclear(question, walked)

    def _walk(
        self, question: Question, whole: Headers, values: Mapping[str, int], answers: bool
    ) -> Walked:
        sender = Sender(HOST, question.segment, question.receiver.mac)
        region, flow = begin(whole, sender, values)
        region.follows_answers = answers
        self.walks += 1
        answer = trace_flow(self._view, HOST, flow, region=region, towards=question.receiver.mac)
        arriving = region.held if region.arriving is None else region.arriving
        return Walked(
            msgspec.structs.replace(whole, **arriving),
            narrowed(whole, region),
            answer,
            answers,
            values,
        )

    def _arrive(self, question: Question, walked: Walked) -> None:
        """Note packets that arrive, and follow the answers to some more of their senders."""
        trace = _first(walked.answer, Disposition.DELIVERED)
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
        told = _answers(answers) if walked.follows_answers else "no"
        if self._alike is None:
            self._note(question, walked.arriving, walked.answer, answered, told)
            return
        told_before = False
        for member, headers in self._alike.tell_apart(trace.namespace, walked.arriving):
            if member == trace.namespace:
                self._note(question, headers, walked.answer, answered, told)
                now = self.arrivals[-1]
                before = self._told.setdefault(_key(question, member, headers), now)
                # Who only pretends an address usually meets the same socket as everybody else.
                told_before = before is not now and _same_socket(before, now)
            else:
                self._tell(question, walked, trace, member, headers, (answered, told), told_before)

    def _tell(
        self, question: Question, walked: Walked, trace: Trace, member: str, headers: Headers,
        answers: tuple[Intervals, str], told_before: bool,
    ) -> None:  # fmt: skip
        """Note for another member what was found for one, after one packet of its own."""
        assert self._alike is not None
        first, receiver = trace.namespace, question.receiver.namespace
        towards = self._alike.counterpart(first, member, receiver)
        own = question._replace(receiver=question.receivers[towards])
        key = _key(own, member, headers)
        held = self._told.get(key)
        if told_before and held is not None:
            answered, told = answers
            self.arrivals.append(held._replace(headers=headers, answered=answered, answers=told))
            return
        values = {
            name: value if value in (side := getattr(headers, name)) else side.first
            for name, value in walked.values.items()
        }
        answer = self._walk(own, headers, values, bool(trace.onward)).answer
        there = next((t for t in answer.traces if t.disposition is Disposition.DELIVERED), None)
        if there is None or there.namespace != self._alike.counterpart(first, member, first):
            raise NotAlikeError
        self._note(own, headers, answer, *answers)
        self._told.setdefault(key, self.arrivals[-1])

    def _note(
        self, question: Question, headers: Headers, answer: Answer, answered: Intervals, told: str
    ) -> None:
        trace = _first(answer, Disposition.DELIVERED)
        rules = self._openers.used_rules(trace)
        opened = find_opener(trace, rules, HOST, question.receiver.namespace, self._filtered)
        traces = answer.traces
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
            confidence=_confidence(answer),
            depends_on=_distinct(one for trace in traces for one in trace.assumed),
            not_understood=_distinct(one for trace in traces for one in trace.not_understood),
        )  # fmt: skip
        own_port = trace.arrived.destination_port
        self.arrivals.append(
            Arrival(
                target, headers, question.sources,
                None if own_port == trace.sent.destination_port else own_port,
                answered, told, opened, rules,
            )
        )  # fmt: skip

    def _pass_on(self, question: Question, walked: Walked) -> None:
        trace = _first(walked.answer, Disposition.LEFT)
        if trace.hops and f"leaves by {question.segment} of {HOST} " in trace.reason:
            return  # it only turns around, on the segment that it came from
        self.passages.append(Passage(**self._outline(question, walked, trace)))

    def _note_unclear(self, question: Question, walked: Walked) -> None:
        trace = _first(walked.answer, Disposition.UNKNOWN)
        if trace.reason != ip.GROUPS_ARE_NOT_WALKED:
            self.unclear.append(Unclear(**self._outline(question, walked, trace)))

    def _outline(self, question: Question, walked: Walked, trace: Trace) -> dict[str, Any]:
        box = walked.arriving if self._alike is None else self._alike.extend(walked.arriving)
        return {
            "segment": question.segment,
            "version": box.version,
            "protocol": trace.sent.protocol,
            "addresses": tuple(address_texts(box.destination, box.version)),
            "ports": tuple(box.destination_port),
            "sources": describe_sources(_source(box), question.sources.usual, box.version),
            "reason": trace.reason,
        }

    @cached_property
    def _filtered(self) -> bool:
        return has_firewall(self._view, HOST)


def _key(question: Question, member: str, box: Headers) -> tuple[Hashable, ...]:
    """What was told of whom, whatever the senders."""
    return (member, question.segment, question.receiver.namespace, box.version, box.protocol,
            box.destination, box.destination_port)  # fmt: skip


def _first(answer: Answer, disposition: Disposition) -> Trace:
    """The first of an answer's ways that ends so. StopIteration where none does."""
    return next(one for one in answer.traces if one.disposition is disposition)


def _same_socket(one: Arrival, other: Arrival) -> bool:
    return (one.target, one.own_port) == (other.target, other.own_port)


def _source(box: Headers) -> Intervals:
    assert box.source is not None
    return box.source


def _is_answered(answer: Answer) -> bool:
    return answer.verdict is Verdict.DELIVERED


def _answers(walked: Sequence[Walked]) -> str:
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
