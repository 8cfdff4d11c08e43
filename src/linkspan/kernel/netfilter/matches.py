"""Tests: from Match, Flags and set look-ups to nf_tables expressions.

A `RuleBody` is one rule while it is compiled. It knows which protocols earlier statements
have established, and adds the tests that a header field needs but nobody wrote, as the
`nft` program does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from linkspan.dataplane.objects import Element, Part
from linkspan.dataplane.rules import (
    Concat,
    Expression,
    Flags,
    Match,
    Meta,
    Named,
    Payload,
    Range,
    SetDefinition,
    SetOf,
)
from linkspan.errors import InvalidRequest, Unsupported
from linkspan.kernel.netfilter import encode
from linkspan.kernel.netfilter.fields import Field, find_field, key_types, parts_of
from linkspan.kernel.netfilter.values import DataType, find_type, prefix_mask, resized

Row = Part | Range | tuple[Part | Range, ...]

_OPERATORS = {
    "==": encode.EQUAL, "!=": encode.NOT_EQUAL, "<": encode.LESS, "<=": encode.LESS_EQUAL,
    ">": encode.GREATER, ">=": encode.GREATER_EQUAL,
}  # fmt: skip
_NETWORK_OF_FAMILY = {"ip": "ip", "ip6": "ip6", "arp": "arp"}
_NFPROTO = {"ip": "ipv4", "ip6": "ipv6"}


class AnonymousSet(NamedTuple):
    """A set without a name of its own, that lives and dies with one rule."""

    id: int
    definition: SetDefinition
    elements: tuple[Element, ...]


class RuleBody:
    """The expressions of one rule, growing. `sets` are the named sets of its table."""

    def __init__(self, family: str, sets: Mapping[str, SetDefinition], first_set_id: int) -> None:
        self.family = family
        self.sets = sets
        self.parts: list[bytes] = []
        self.anonymous: list[AnonymousSet] = []
        self._next_set_id = first_set_id
        self._network = _NETWORK_OF_FAMILY.get(family)
        self._transport: str | None = None
        self._ether = family == "bridge"

    # Protocols ------------------------------------------------------------------------

    def require_network(self, protocol: str) -> None:
        """Test for a network protocol ("ip", "ip6", "arp") unless that was done."""
        if self._network == protocol:
            return
        if self._network is not None:
            raise InvalidRequest(
                f"a rule tests for {self._network} and reads a field of {protocol}"
            )
        if self.family == "inet":
            if protocol not in _NFPROTO:
                raise Unsupported(
                    f"family inet sees no {protocol} packets; use family bridge or arp"
                )
            self._compare(Meta("nfproto"), _NFPROTO[protocol])
        elif protocol == "arp":
            self._compare(Payload("ether", "type"), protocol)
        else:
            self._compare(Meta("protocol"), protocol)
        self._network = protocol

    def require_transport(self, protocol: str) -> None:
        """Test for a transport protocol ("tcp") unless that was done."""
        if self._transport == protocol:
            return
        if self._transport is not None:
            raise InvalidRequest(
                f"a rule tests for {self._transport} and reads a field of {protocol}"
            )
        self._compare(Meta("l4proto"), protocol)
        self._transport = protocol

    def _require(self, field: Field) -> None:
        network, transport, ether = field.needs
        if ether and not self._ether:
            self._compare(Meta("iiftype"), "ether")
            self._ether = True
        if network:
            self.require_network(network)
        if transport:
            self.require_transport(transport)

    def _learn(self, left: Expression, right: object) -> None:
        """Remember what a test for equality says about the packet's protocols."""
        if left in (Payload("ether", "type"), Meta("protocol")) and right in ("ip", "ip6", "arp"):
            self._network = str(right)
        elif left == Meta("nfproto") and right in ("ipv4", "ipv6"):
            self._network = "ip" if right == "ipv4" else "ip6"
        elif left in (Meta("l4proto"), Payload("ip", "protocol"), Payload("ip6", "nexthdr")):
            self._transport = "icmpv6" if right == "ipv6-icmp" else str(right)

    def _compare(self, left: Expression, right: Part) -> None:
        field = find_field(left)
        self.parts.append(field.load(0))
        self.parts.append(encode.compare(0, encode.EQUAL, field.kind.encode(right)))

    # Loading --------------------------------------------------------------------------

    def load(self, expression: Expression, word: int = 0, network_order: bool = False) -> int:
        """Load an expression into the registers from `word` on; the word behind it.

        `network_order` turns numbers that the machine holds in its own order: ranges are
        compared byte by byte.
        """
        fields = [find_field(part) for part in parts_of(expression)]
        for field in fields:
            self._require(field)
        for field in fields:
            self.parts.append(field.load(word))
            kind = field.kind
            if network_order and kind.host_order and kind.size > 1:
                self.parts.append(encode.to_network_order(word, kind.size))
            word += kind.padded // 4
        return word

    def find_set(self, name: str) -> SetDefinition:
        """The named set. Raises InvalidRequest when the table has none of this name."""
        if name not in self.sets:
            raise InvalidRequest(f"a rule looks into {name!r}, but its table has no such set")
        return self.sets[name]

    def check_key(self, expression: Expression, definition: SetDefinition) -> None:
        """Refuse a key whose sizes are not those of the set: the kernel would not tell why."""
        have = [find_field(part).kind for part in parts_of(expression)]
        want = [find_type(name) for name in definition.key]
        if [kind.padded for kind in have] != [kind.padded for kind in want]:
            raise InvalidRequest(
                f"set {definition.name} has keys {' . '.join(definition.key)}, a rule looks up "
                f"{' . '.join(kind.name for kind in have)}"
            )

    def add_set(self, definition: SetDefinition, elements: tuple[Element, ...]) -> int:
        """Keep an anonymous set for this rule; its id inside the transaction."""
        number = self._next_set_id
        self._next_set_id += 1
        self.anonymous.append(AnonymousSet(number, definition, elements))
        return number

    # Statements -----------------------------------------------------------------------

    def match(self, statement: Match) -> None:
        """Compile a Match."""
        left, right, op = statement.left, statement.right, statement.op
        if isinstance(right, (Named, SetOf)):
            if op not in ("==", "!="):
                raise Unsupported(f"{op} does not go with a set: {statement}")
            self._match_set(left, right, invert=op == "!=")
            return
        if isinstance(left, Concat) and len(left.parts) > 1:
            raise Unsupported(f"a concatenation is only compared with sets: {statement}")
        if op not in _OPERATORS:
            raise Unsupported(f"operator {op!r} of {statement}")
        expression = parts_of(left)[0]
        self._require(find_field(expression))
        if isinstance(right, Range):
            self._match_range(expression, right, op)
        else:
            self._match_value(expression, right, op)
            if op == "==":
                self._learn(expression, right)

    def _match_value(self, left: Expression, right: Part, op: str) -> None:
        field = find_field(left)
        kind = field.kind
        if isinstance(right, str) and "/" in right and kind.name in ("ipv4_addr", "ipv6_addr"):
            self._match_prefix(field, right, op)
            return
        if kind.name == "ifname" and isinstance(right, str) and right.endswith("*"):
            self.parts.append(field.load(0))
            self.parts.append(encode.compare(0, _OPERATORS[op], right[:-1].encode()))
            return
        ordered = op not in ("==", "!=")
        self.load(left, network_order=ordered)
        self.parts.append(encode.compare(0, _OPERATORS[op], _ordered(kind, right, ordered)))

    def _match_prefix(self, field: Field, right: str, op: str) -> None:
        if op not in ("==", "!="):
            raise Unsupported(f"a prefix has no order: {op} {right}")
        network, mask, bits = prefix_mask(right, field.kind)
        whole = bits // 8
        if bits % 8 == 0 and bits and field.store[0] == "payload" and field.masked is None:
            field = field._replace(kind=resized(find_type("integer"), whole))
            self.parts.append(field.load(0))
            network = network[:whole]
        else:
            self.parts.append(field.load(0))
            self.parts.append(encode.mask(0, mask, bytes(len(mask))))
        self.parts.append(encode.compare(0, _OPERATORS[op], network))

    def _match_range(self, left: Expression, right: Range, op: str) -> None:
        if op not in ("==", "!="):
            raise Unsupported(f"a range goes with == and != only, not {op}")
        kind = find_field(left).kind
        self.load(left, network_order=True)
        first, last = (_ordered(kind, end, True) for end in (right.first, right.last))
        if op == "!=":
            self.parts.append(encode.outside(0, first, last))
            return
        self.parts.append(encode.compare(0, encode.GREATER_EQUAL, first))
        self.parts.append(encode.compare(0, encode.LESS_EQUAL, last))

    def _match_set(self, left: Expression, right: Named | SetOf, invert: bool) -> None:
        if isinstance(right, Named):
            definition, name, number = self.find_set(right.name), right.name, 0
        else:
            definition, elements = anonymous_set(left, right.values)
            name = definition.name
            number = self.add_set(definition, elements)
        self.check_key(left, definition)
        self.load(left, network_order=definition.interval)
        self.parts.append(encode.look_up(name, number, 0, invert=invert))

    def flags(self, statement: Flags) -> None:
        """Compile a Flags: any of the named bits."""
        field = find_field(statement.left)
        self._require(field)
        zero = bytes(field.kind.size)
        bits = 0
        for name in statement.names:
            bits |= int.from_bytes(field.kind.encode(name), "big")
        self.parts.append(field.load(0))
        self.parts.append(encode.mask(0, bits.to_bytes(field.kind.size, "big"), zero))
        op = encode.EQUAL if statement.invert else encode.NOT_EQUAL
        self.parts.append(encode.compare(0, op, zero))


def _ordered(kind: DataType, part: Part, network_order: bool) -> bytes:
    packed = kind.encode(part)
    return packed[::-1] if network_order and kind.host_order and encode.LITTLE else packed


def anonymous_set(key: Expression, rows: tuple[Row, ...],
                  data: tuple[str, ...] | None = None,
                  values: tuple[tuple[Part, ...], ...] | None = None,
                  ) -> tuple[SetDefinition, tuple[Element, ...]]:  # fmt: skip
    """An anonymous set, or map when `data` names types and `values` has a row a key."""
    names = key_types(key)
    ends = [_row_ends(row) for row in rows]
    interval = any(last is not None for _, last in ends) or any(
        isinstance(part, str) and "/" in part for first, _ in ends for part in first
    )
    definition = SetDefinition(
        name="__set%d" if data is None else "__map%d", key=names, data=data, interval=interval
    )
    elements = tuple(
        Element(
            table="", set=definition.name, first=first, last=last,
            data=None if values is None else values[place],
        )
        for place, (first, last) in enumerate(ends)
    )  # fmt: skip
    return definition, elements


def _row_ends(row: Row) -> tuple[tuple[Part, ...], tuple[Part, ...] | None]:
    parts = row if isinstance(row, tuple) else (row,)
    first = tuple(part.first if isinstance(part, Range) else part for part in parts)
    last = tuple(part.last if isinstance(part, Range) else part for part in parts)
    return first, (None if first == last else last)
