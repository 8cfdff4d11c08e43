"""The firewall of one namespace: the only place that changes an nf_tables ruleset.

Our tables belong to one netlink socket where the kernel can do that (Linux 6.9: table
flags owner and persist): nobody else can change them, and a flush of the ruleset passes
them by. When the socket is closed the tables stay, without an owner, and anybody can
change them again; the next daemon takes them over with `claim`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

import msgspec

from linkspan.dataplane.diff import Operation
from linkspan.dataplane.objects import HOST, Element
from linkspan.dataplane.rules import SetDefinition, Table
from linkspan.errors import KernelRefused, NotFound
from linkspan.kernel.netfilter import batch, observed
from linkspan.kernel.netfilter.batch import Failure, Message, send_batch
from linkspan.kernel.netfilter.elements import SetCodec
from linkspan.kernel.netfilter.tables import TABLE_FLAGS, claim_table
from linkspan.kernel.netfilter.transaction import (
    Codecs,
    Plan,
    SetKey,
    Step,
    plan_transaction,
)
from linkspan.kernel.netfilter.verify import find_differences
from linkspan.kernel.netlink.socket import NETFILTER, NetlinkSocket
from linkspan.kernel.netlink.wire import attribute_text

OWNED = TABLE_FLAGS["owner"] | TABLE_FLAGS["persist"]
_PROBE = "linkspan-probe"
_TRIES = 5
_REASONS = {
    errno.EPERM: "it belongs to another process's socket, or this one lacks CAP_NET_ADMIN",
    errno.EBUSY: "it is there already, with other data",
    errno.EEXIST: "it is there already, or overlaps with one that is",
    errno.ENOTEMPTY: "it overlaps with a range that is there",
}


class Firewall:
    """One nf_tables socket in one namespace. One thread at a time may use it.

    `namespace` is an open file descriptor, None for the calling thread's own; `name` is
    what the namespace is called in the objects that are read. With `own` new tables belong
    to this socket where the kernel supports it: keep it open for as long as they shall.
    """

    def __init__(self, namespace: int | None = None, name: str = HOST, own: bool = True) -> None:
        self.name = name
        self._own = own
        self._namespace = namespace
        self._socket = NetlinkSocket(NETFILTER, namespace)
        self._supports_owner: bool | None = None
        self._remove_type = batch.DESTROY_ELEMENT
        self._codecs: Codecs = {}
        self._fingerprints: dict[tuple[str, str], str | None] = {}

    def __enter__(self) -> Firewall:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. Tables that it owns stay, without an owner."""
        self._socket.close()

    @property
    def portid(self) -> int:
        """The port id of the socket: what `monitor` tells our own changes by."""
        return self._socket.portid

    # Changing -------------------------------------------------------------------------

    def transaction(self, operations: Sequence[Operation]) -> None:
        """Carry out operations on tables and elements, all or none.

        Add of a table replaces one of the same name together with its elements; an element
        that is added twice, or removed although it is not there, is no error. Raises
        KernelRefused with the table, rule or element that was refused, InvalidRequest and
        Unsupported for what cannot be said to the kernel.
        """
        if not operations:
            return
        flags = OWNED if self._own and self.supports_owner() else 0
        skip: frozenset[Element] = frozenset()
        while True:
            plan = plan_transaction(operations, self._find_codec, flags, self._remove_type, skip)
            if not plan.steps:
                return
            failures = send_batch(self._socket, [step.message for step in plan.steps])
            if not failures:
                self._remember(plan)
                return
            if self._lacks_destroy(failures, plan.steps):
                self._remove_type = batch.DELETE_ELEMENT
                continue
            missing = _missing(failures, plan.steps)
            if not missing <= skip and missing:
                skip |= missing
                continue
            raise _refusal(failures[0], [step.message for step in plan.steps])

    def _lacks_destroy(self, failures: tuple[Failure, ...], steps: Sequence[Step]) -> bool:
        """Whether the kernel does not know the message that removes without complaint."""
        return self._remove_type == batch.DESTROY_ELEMENT and any(
            failure.errno == errno.EINVAL
            and failure.offset == 0
            and steps[failure.place].message.type == batch.DESTROY_ELEMENT
            for failure in failures
            if failure.place >= 0
        )

    def _remember(self, plan: Plan) -> None:
        for family, table in plan.removed:
            self._forget(family, table)
            self._fingerprints.pop((family, table), None)
        for made in plan.made:
            self._forget(made.family, made.name)
        self._codecs.update(plan.codecs)
        for made in plan.made:
            key = (made.family, made.name)
            self._fingerprints[key] = observed.read_fingerprint(self._socket, *key)

    def _forget(self, family: str, table: str) -> None:
        for key in [key for key in self._codecs if key[:2] == (family, table)]:
            del self._codecs[key]

    def _find_codec(self, key: SetKey) -> SetCodec:
        if key not in self._codecs:
            family, table, name = key
            for definition in self._read_sets(family, table):
                self._codecs[family, table, definition.name] = SetCodec(definition)
            if key not in self._codecs:
                raise NotFound(f"there is no set {name} in table {family} {table}")
        return self._codecs[key]

    def _read_sets(self, family: str, table: str) -> tuple[SetDefinition, ...]:
        try:
            return observed.read_sets(self._socket, family, table)
        except KernelRefused as error:
            if error.errno != errno.ENOENT:
                raise
            return ()

    # Ownership ------------------------------------------------------------------------

    def supports_owner(self) -> bool:
        """Whether tables can belong to a socket and outlive it (Linux 6.9). Asked once."""
        if self._supports_owner is None:
            body = attribute_text(1, _PROBE)
            declare = claim_table("inet", _PROBE, OWNED)._replace(flags=0x400)
            delete = Message(batch.DELETE_TABLE, 0, declare.family, body, declare.describe)
            failures = send_batch(self._socket, [declare, delete])
            refused = failures[0].errno if failures else 0
            if refused not in (0, errno.EOPNOTSUPP, errno.EINVAL):
                raise _refusal(failures[0], [declare, delete])
            self._supports_owner = not refused
        return self._supports_owner

    def claim(self, family: str, name: str) -> bool:
        """Become the owner of a table that lost its own; True when it is ours now.

        False when there is no such table, or it was made without an owner: add it again.
        Raises KernelRefused (EPERM) while another living socket owns it.
        """
        if not self._own or not self.supports_owner():
            return False
        # The kernel would make a table that is not there, whatever the flags say.
        if observed.read_table(self._socket, family, name) is None:
            return False
        message = claim_table(family, name, OWNED)
        failures = send_batch(self._socket, [message])
        if failures and failures[0].errno not in (errno.ENOENT, errno.EOPNOTSUPP):
            raise _refusal(failures[0], [message])
        return not failures

    # Reading --------------------------------------------------------------------------

    def generation(self) -> int:
        """A number that grows with every change of the ruleset, whoever made it."""
        return observed.read_generation(self._socket)

    def intact(self, family: str, name: str) -> bool:
        """Whether chains and rules are still those that were loaded or last verified here.

        Cheap enough for every notification. Elements are not looked at. False for a table
        that this object has neither loaded nor verified.
        """
        known = self._fingerprints.get((family, name))
        return known is not None and known == observed.read_fingerprint(self._socket, family, name)

    def differences(self, table: Table) -> tuple[str, ...]:
        """What differs between the kernel's chains, sets and rules and `table`, () for nothing.

        One line a difference, for the log. Reads every rule's expressions.
        """
        before = observed.read_fingerprint(self._socket, table.family, table.name)
        lines = find_differences(self._socket, table)
        if not lines and before is not None:
            self._fingerprints[table.family, table.name] = before
        return lines

    def tables(self) -> tuple[tuple[str, str], ...]:
        """Family and name of every table of the namespace, whoever made it."""
        return observed.list_tables(self._socket)

    def elements(self, family: str, table: str, name: str) -> tuple[Element, ...]:
        """The elements of one set. Raises NotFound when there is no such set, KernelRefused."""
        codec = self._find_codec((family, table, name))
        return observed.read_elements(self._socket, family, table, codec, self.name)

    def read(
        self, family: str, name: str, like: Table | None = None
    ) -> tuple[Table | None, tuple[Element, ...]]:
        """A table and its elements; (None, ()) when there is none.

        Of rules only handle and comment are read, unless the table is exactly `like`: then
        the table that comes back is `like`, with the namespace's name.
        """
        for _ in range(_TRIES):
            before = self.generation()
            try:
                found = self._read(family, name, like)
            except KernelRefused as error:
                if error.errno != errno.ENOENT:
                    raise
                continue  # it vanished between two dumps
            if before == self.generation():
                break
        return found

    def _read(
        self, family: str, name: str, like: Table | None
    ) -> tuple[Table | None, tuple[Element, ...]]:
        state = observed.read_table(self._socket, family, name)
        if state is None:
            return None, ()
        sets = observed.read_sets(self._socket, family, name)
        elements: list[Element] = []
        for definition in sets:
            codec = SetCodec(definition)
            self._codecs[family, name, definition.name] = codec
            elements += observed.read_elements(self._socket, family, name, codec, self.name)
        if like is not None and not self.differences(like):
            return msgspec.structs.replace(like, namespace=self.name), tuple(elements)
        table = observed.shell(
            self.name, family, name, state,
            observed.read_chains(self._socket, family, name),
            observed.read_rules(self._socket, family, name), sets,
        )  # fmt: skip
        return table, tuple(elements)


def _missing(failures: tuple[Failure, ...], steps: Sequence[Step]) -> frozenset[Element]:
    """The elements of removals that failed because there was nothing to remove."""
    found: set[Element] = set()
    for failure in failures:
        if failure.place < 0 or failure.errno != errno.ENOENT:
            return frozenset()
        removed = steps[failure.place].removed
        if not removed:
            return frozenset()
        found |= set(removed)
    return frozenset(found)


def _refusal(failure: Failure, messages: Sequence[Message]) -> KernelRefused:
    detail = failure.detail or _REASONS.get(failure.errno, "")
    if failure.place < 0:
        return KernelRefused("changing the firewall", failure.errno, detail)
    what = messages[failure.place].describe(failure.offset)
    return KernelRefused(what, failure.errno, detail)
