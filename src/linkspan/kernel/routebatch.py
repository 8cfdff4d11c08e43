"""Carrying out rtnetlink operations of several changes with few datagrams."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence
from itertools import groupby

from linkspan.dataplane.diff import Add, Operation, Remove, Replace
from linkspan.dataplane.links import Tun, Veth
from linkspan.dataplane.objects import Address, FdbEntry, Link, Neighbour, Route
from linkspan.errors import KernelRefused, LinkspanError, NotFound
from linkspan.kernel import requests, tuntap
from linkspan.kernel.changes import Run, subject
from linkspan.kernel.netlink import links, seenlinks
from linkspan.kernel.netlink.socket import Refusal
from linkspan.kernel.session import Session
from linkspan.kernel.words import describe_operation


class _NoLink(Exception):
    """A link that an operation refers to is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Waiting:
    """An operation whose messages wait to be sent."""

    __slots__ = ("after", "counts", "first", "operation", "run")

    def __init__(
        self, run: Run, operation: Operation, messages: requests.Messages, counts: bool = True
    ) -> None:
        """With `counts` the operation is done when the first messages are."""
        self.counts = counts
        self.run = run
        self.operation = operation
        self.first = messages.first
        self.after = messages.after


def _removes_link(item: _Waiting) -> bool:
    operation = item.operation
    return isinstance(operation, Remove) and isinstance(operation.object, Link)


def _fail(run: Run, operation: Operation, error: Exception) -> None:
    """A change fails, unless it wanted something away that went with its namespace."""
    if not (isinstance(operation, Remove) and isinstance(error, NotFound)):
        run.fail(error)


class RouteBatch:
    """Collects messages for each namespace, and sends them when their results are needed.

    With `repair`, what is to be added and is there already is changed instead.
    """

    def __init__(self, session: Session, repair: bool = False) -> None:
        self._session = session
        self._repair = repair
        self._waiting: dict[str, list[_Waiting]] = {}
        self._links_waiting: dict[str, set[str]] = {}

    def apply(self, rows: Sequence[tuple[Run, Sequence[Operation]]]) -> None:
        """Carry out one row of each change; failures are kept in their Run.

        What remains to be done at the far end of a new veth pair waits for the next row of
        that namespace, or for `finish`.
        """
        touched: dict[str, None] = {}
        for run, operations in rows:
            for operation in operations:
                if run.may(operation):
                    touched[subject(operation).namespace] = None
                    self._take(run, operation)
        for namespace in touched:
            self._send(namespace)

    def finish(self) -> None:
        """Send what still waits."""
        for namespace in list(self._waiting):
            self._send(namespace)

    def _take(self, run: Run, operation: Operation) -> None:
        item = subject(operation)
        namespace = item.namespace
        counts = True
        try:
            if isinstance(item, Link):
                if isinstance(item.kind, Tun) and isinstance(operation, Add):
                    self._make_tun(item)
                    run.done.append(operation)
                    counts = False
                self._note_link(item)
                if isinstance(operation, Add) and requests.birthplace(item) is not None:
                    self._make_on_parent_elsewhere(run, operation, item)
                    return
            messages = requests.encode(
                operation,
                self._numbering(namespace),
                self._session.descriptor,
                namespace in self._session.fresh,
            )
            if messages.first:
                waiting = self._waiting.setdefault(namespace, [])
                waiting.append(_Waiting(run, operation, messages, counts))
            else:
                self._set_up_peer(run, operation)
        except _NoLink as missing:
            if not isinstance(operation, Remove):
                what = describe_operation(operation)
                run.fail(KernelRefused(what, errno.ENODEV, f"there is no link {missing.name}"))
        except (LinkspanError, OSError) as error:
            _fail(run, operation, error)

    def _note_link(self, link: Link) -> None:
        """Numbers of links that change are found out again, after their messages are sent."""
        self._session.link_changes(link.namespace, link.name)
        self._links_waiting.setdefault(link.namespace, set()).add(link.name)
        if isinstance(link.kind, Veth) and link.kind.peer_name is not None:
            peer_namespace = link.kind.peer_namespace or link.namespace
            self._session.link_changes(peer_namespace, link.kind.peer_name)
            if peer_namespace == link.namespace:
                self._links_waiting[link.namespace].add(link.kind.peer_name)

    def _numbering(self, namespace: str) -> Callable[[str], int]:
        def index_of(name: str) -> int:
            if name in self._links_waiting.get(namespace, ()):
                self._send(namespace)
            index = self._session.index(namespace, name)
            if index is None:
                raise _NoLink(name)
            return index

        return index_of

    def _make_on_parent_elsewhere(self, run: Run, operation: Add, link: Link) -> None:
        """A link on a parent in another namespace is made from there, set up from here."""
        birthplace = requests.birthplace(link)
        assert birthplace is not None
        self._send(link.namespace)
        messages = requests.encode_birth(
            link, self._numbering(birthplace), self._session.descriptor(link.namespace)
        )
        waiting = _Waiting(run, operation, messages)
        if waiting not in self._send_round(birthplace, [(waiting, messages.first)]):
            run.done.append(operation)
        if waiting.after and run.may(operation):
            self._send_round(link.namespace, [(waiting, waiting.after)])

    def _make_tun(self, link: Link) -> None:
        self._send(link.namespace)
        assert isinstance(link.kind, Tun)
        tuntap.create(link.name, bool(link.kind.tap), self._session.descriptor(link.namespace))

    def _send(self, namespace: str) -> None:
        waiting = self._waiting.pop(namespace, [])
        self._links_waiting.pop(namespace, None)
        if not waiting:
            return
        if any(map(_removes_link, waiting)):
            refused = self._send_with_removals(namespace, waiting)
        else:
            refused = self._send_round(namespace, [(item, item.first) for item in waiting])
        for item in waiting:
            if item not in refused and item.counts:
                item.run.done.append(item.operation)
        going_on = [item for item in waiting if item.run.may(item.operation)]
        self._send_round(namespace, [(item, item.after) for item in going_on if item.after])
        for item in going_on:
            if item.counts and item.run.may(item.operation):
                self._set_up_peer(item.run, item.operation)

    def _send_with_removals(self, namespace: str, waiting: Sequence[_Waiting]) -> set[_Waiting]:
        refused: set[_Waiting] = set()
        for together, row in groupby(waiting, _removes_link):
            items = list(row)
            if together and len(items) > 1 and self._remove_links(namespace, items):
                continue
            refused |= self._send_round(namespace, [(item, item.first) for item in items])
        return refused

    def _remove_links(self, namespace: str, items: Sequence[_Waiting]) -> bool:
        """Remove several links in the time of one; False when they must go one by one."""
        group = random.getrandbits(30) | 1 << 30
        messages = [
            links.put_in_group(item.operation.object, group)
            for item in items
            if isinstance(item.operation, Remove) and isinstance(item.operation.object, Link)
        ]
        try:
            results = self._session.socket(namespace).request(
                [*messages, links.remove_group(group)]
            )
        except (LinkspanError, OSError):
            return False
        return results[-1] is None and all(
            refusal is None or refusal.errno == errno.ENODEV for refusal in results
        )

    def _set_up_peer(self, run: Run, operation: Operation) -> None:
        """The far end of a veth pair is brought up, or changed, from its own namespace."""
        link = subject(operation)
        if isinstance(operation, Remove) or not isinstance(link, Link):
            return
        if not isinstance(link.kind, Veth):
            return
        namespace = link.kind.peer_namespace or link.namespace
        if isinstance(operation, Replace):
            old = operation.old.kind if isinstance(operation.old, Link) else None
            messages = requests.change_peer(old if isinstance(old, Veth) else None, link.kind)
        elif self._repair:
            messages = requests.change_peer(None, link.kind)
        elif link.kind.peer_up and namespace != link.namespace:
            messages = links.bring_up_peer(link.kind)
        else:
            return
        if messages:
            row = self._waiting.setdefault(namespace, [])
            row.append(_Waiting(run, operation, requests.Messages(messages), counts=False))

    def _send_round(
        self, namespace: str, round: Sequence[tuple[_Waiting, Sequence[bytes]]]
    ) -> set[_Waiting]:
        """Send the messages of several operations; gives those that were refused."""
        if not round:
            return set()
        messages = [message for _, row in round for message in row]
        try:
            results = self._session.socket(namespace).request(messages)
        except (LinkspanError, OSError) as error:
            for item, _ in round:
                _fail(item.run, item.operation, error)
            return {item for item, _ in round}
        if not any(results):
            return set()
        refused = set()
        position = 0
        for item, row in round:
            refusals = results[position : position + len(row)]
            position += len(row)
            refusal = next((found for found in refusals if found is not None), None)
            if refusal is not None:
                refused.add(item)
                self._judge(item, refusal)
        return refused

    def _judge(self, item: _Waiting, refusal: Refusal) -> None:
        """A refused operation: done already, to be repaired, or failed."""
        operation = item.operation
        if requests.is_gone_already(operation, refusal):
            return
        if isinstance(operation, Add) and refusal.errno == errno.EEXIST and self._repair:
            try:
                refusal_of_repair = self._repair_existing(operation)
            except (LinkspanError, _NoLink) as error:
                item.run.fail(error)
                return
            item.after = ()
            if refusal_of_repair is None:
                return
            refusal = refusal_of_repair
        item.run.fail(refusal.as_error(describe_operation(operation)))

    def _repair_existing(self, operation: Add) -> Refusal | None:
        """Make what exists as the operation states it. Rules that exist are equal already."""
        item = operation.object
        sock, index_of = self._session.socket(item.namespace), self._numbering(item.namespace)
        messages: list[bytes] = []
        if isinstance(item, Link):
            answer = sock.query(links.get(item.name))
            if isinstance(answer, Refusal):
                return answer
            held = seenlinks.decode(answer[1], item.namespace).link
            if item.alias is None or held.alias != item.alias:
                whose = f'its alias is "{held.alias}"' if held.alias else "it has no alias"
                return Refusal(errno.EEXIST, f"the link that is there is not linkspan's: {whose}")
            messages = links.change(held, item, index_of)
        elif isinstance(item, (Address, Route, Neighbour, FdbEntry)):
            messages = requests.force(item, index_of)
        results = sock.request(messages)
        return next((found for found in results if found is not None), None)
