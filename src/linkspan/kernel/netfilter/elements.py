"""Elements of sets and maps: records to bytes and back.

A `SetCodec` is made once for a set's definition and then packs many elements: the bytes
around a key and around its data never change, so one element costs little more than its
numbers and addresses.

How the kernel keeps a range depends on the set. A concatenation keeps both ends in one
element (NFTA_SET_ELEM_KEY_END, nft_set_pipapo.c). A set of one component keeps two
elements: the first value, and the first value behind the range with the flag
NFT_SET_ELEM_INTERVAL_END (nft_set_rbtree.c).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain as joined

from linkspan.dataplane.objects import Element, Part
from linkspan.dataplane.rules import SetDefinition
from linkspan.errors import InvalidRequest
from linkspan.kernel.netfilter.element_lists import (
    INTERVAL_END,
    Item,
    pair_ends,
    read_items,
    read_uniform_items,
)
from linkspan.kernel.netfilter.values import DataType, find_type, join_range, split_prefix
from linkspan.kernel.netfilter.verdicts import pack_verdict, read_verdict
from linkspan.kernel.netlink.wire import attribute, nested, parse_attributes

_NESTED = 0x8000
_ITEM = 1
_KEY, _DATA, _FLAGS, _KEY_END = 1, 2, 3, 10
_DATA_VALUE, _DATA_VERDICT = 1, 2
_END_FLAG = attribute(_FLAGS, struct.pack(">I", INTERVAL_END))

Span = tuple[bytes, bytes]
"""First and last value, both included."""


def _padding(kind: DataType) -> bytes:
    return bytes(kind.padded - kind.size)


def _padded_encoder(kind: DataType, reverse: bool) -> Callable[[Part], bytes]:
    """The encoder of one component, padded to whole registers."""
    pad, encode = _padding(kind), kind.encode
    if reverse and kind.host_order and kind.size > 1:
        return lambda part: encode(part)[::-1] + pad
    if not pad:
        return encode
    if kind.name == "inet_service":
        pack = struct.Struct(">Hxx").pack
        return lambda part: pack(part) if type(part) is int and part < 65536 else encode(part) + pad
    return lambda part: encode(part) + pad


class SetCodec:
    """Packs and unpacks the elements of one set or map.

    Raises InvalidRequest for a type that is not known, later for values that do not fit.
    """

    def __init__(self, definition: SetDefinition, end_marks: bool = True) -> None:
        self.definition = definition
        self.kinds = tuple(find_type(name) for name in definition.key)
        self.concatenated = len(self.kinds) > 1
        self.interval = definition.interval
        names = definition.data or ()
        self.is_map = definition.data is not None
        self.verdicts = names == ("verdict",)
        self.data_kinds = tuple(find_type(name) for name in names)
        self._end_marks = end_marks and self.interval and not self.concatenated
        self._encoders = tuple(self._encoder(kind) for kind in self.kinds)
        self._data_encoders = tuple(
            _padded_encoder(kind, False) if len(names) > 1 else kind.encode
            for kind in self.data_kinds
        )
        self.key_size = sum(k.padded for k in self.kinds) if self.concatenated else (
            self.kinds[0].size
        )  # fmt: skip
        self.data_size = self._size_of_data()
        key, data = self.key_size, self.data_size
        self._key_head = _value_head(_KEY, key)
        self._key_end_head = _value_head(_KEY_END, key)
        self._key_tail = bytes(_padded(key) - key)
        self._data_head = _value_head(_DATA, data)
        self._data_tail = bytes(_padded(data) - data)

    def _encoder(self, kind: DataType) -> Callable[[Part], bytes]:
        if self.concatenated:
            return _padded_encoder(kind, self.interval)
        encode = kind.encode
        if self.interval and kind.host_order and kind.size > 1:
            return lambda part: encode(part)[::-1]
        return encode

    def _size_of_data(self) -> int:
        if self.verdicts or not self.data_kinds:
            return 0
        if len(self.data_kinds) == 1:
            return self.data_kinds[0].size
        return sum(kind.padded for kind in self.data_kinds)

    # Packing --------------------------------------------------------------------------

    def pack(self, element: Element) -> bytes:
        """The list items that add the element."""
        self._check(element)
        data = b"" if element.data is None else self._pack_data(element.data)
        if self.interval:
            return self._pack_interval(self._span(element), data)
        return self._pack_single(self._join(element.first), data)

    def pack_key(self, element: Element) -> bytes:
        """The list items that remove the element: its key alone."""
        self._check(element, keys_only=True)
        if self.interval:
            return self._pack_interval(self._span(element), b"")
        return self._pack_single(self._join(element.first), b"")

    def _check(self, element: Element, keys_only: bool = False) -> None:
        if len(element.first) != len(self.kinds):
            raise InvalidRequest(
                f"{describe_element(element)}: the key has {len(element.first)} parts, "
                f"the set has {len(self.kinds)} ({' . '.join(self.definition.key)})"
            )
        if element.last is not None and not self.interval:
            raise InvalidRequest(f"{describe_element(element)}: the set holds no ranges")
        if not keys_only and (element.data is not None) != self.is_map:
            state = "needs" if self.is_map else "takes no"
            raise InvalidRequest(f"{describe_element(element)}: the set {state} data")

    def _join(self, parts: tuple[Part, ...]) -> bytes:
        encoders = self._encoders
        if len(encoders) == 1:
            return encoders[0](parts[0])
        return b"".join([encode(part) for encode, part in zip(encoders, parts, strict=True)])

    def _pack_single(self, key: bytes, data: bytes) -> bytes:
        body = self._key_head + key + self._key_tail + data
        return _pack_item_head(len(body)) + body

    def _pack_interval(self, span: Span, data: bytes) -> bytes:
        first, last = span
        if self.concatenated:
            ends = self._key_head + first + self._key_end_head + last
            return _pack_item_head(len(ends) + len(data)) + ends + data
        start = self._pack_single(first, data)
        behind = next_value(last)
        if behind is None or not self._end_marks:
            return start  # the range reaches the highest value there is
        end = _END_FLAG + self._key_head + behind + self._key_tail
        return start + _pack_item_head(len(end)) + end

    def _span(self, element: Element) -> Span:
        if element.last is not None:
            first, last = self._join(element.first), self._join(element.last)
            if first > last:
                raise InvalidRequest(
                    f"{describe_element(element)}: the range ends before it starts"
                )
            return first, last
        lows, highs = [], []
        for kind, encode, part in zip(self.kinds, self._encoders, element.first, strict=True):
            ends = split_prefix(part, kind) if isinstance(part, str) and "/" in part else None
            if ends is None:
                low = high = encode(part)
            else:
                low, high = ends
            lows.append(low)
            highs.append(high)
        return b"".join(lows), b"".join(highs)

    def _pack_data(self, parts: tuple[Part, ...]) -> bytes:
        if self.verdicts:
            return nested(_DATA, pack_verdict(str(parts[0])))
        encoders = self._data_encoders
        if len(parts) != len(encoders):
            raise InvalidRequest(
                f"map {self.definition.name}: data {parts!r} has {len(parts)} parts, the map has "
                f"{len(encoders)}"
            )
        value = b"".join([encode(part) for encode, part in zip(encoders, parts, strict=True)])
        return self._data_head + value + self._data_tail

    # Unpacking ------------------------------------------------------------------------

    def unpack(self, payloads: Iterable[bytes], namespace: str, family: str,
               table: str) -> Iterator[Element]:  # fmt: skip
        """The elements in the lists of a dump (the payloads of NFTA_SET_ELEM_LIST_ELEMENTS)."""
        make = partial(
            Element, namespace=namespace, family=family, table=table, set=self.definition.name
        )
        plain = not self.interval and not self.verdicts
        items: Iterator[Item] = joined.from_iterable(
            (plain and read_uniform_items(payload, self.key_size, self.data_size))
            or read_items(payload)
            for payload in payloads
        )
        if self.interval and not self.concatenated:
            items = pair_ends(items)
        if not self.interval:
            for key, _, data, _ in items:
                yield make(first=self.read_key(key), data=self.read_data(data))
            return
        for key, end, data, _ in items:
            first, last = self.read_span(key, key if end is None else end)
            yield make(first=first, last=last, data=self.read_data(data))

    def read_key(self, key: bytes) -> tuple[Part, ...]:
        """The components of a key."""
        if not self.concatenated:
            return (self.kinds[0].decode(self._ordered(self.kinds[0], key)),)
        parts, offset = [], 0
        for kind in self.kinds:
            parts.append(kind.decode(self._ordered(kind, key[offset : offset + kind.size])))
            offset += kind.padded
        return tuple(parts)

    def _ordered(self, kind: DataType, data: bytes) -> bytes:
        if self.interval and kind.host_order and kind.size > 1:
            return data[::-1]
        return data

    def read_span(
        self, first: bytes, last: bytes
    ) -> tuple[tuple[Part, ...], tuple[Part, ...] | None]:
        """(first, last) as an Element states them: prefixes are one part, not two ends."""
        if first == last:
            return self.read_key(first), None
        parts, offset = [], 0
        for kind in self.kinds:
            low, high = first[offset : offset + kind.size], last[offset : offset + kind.size]
            text = join_range(low, high, kind)
            if text is None:
                return self.read_key(first), self.read_key(last)
            parts.append(text if low != high else kind.decode(self._ordered(kind, low)))
            offset += kind.padded
        return tuple(parts), None

    def read_data(self, payload: bytes) -> tuple[Part, ...] | None:
        """What a map gives, None for a set."""
        if not self.data_kinds or not payload:
            return None
        if self.verdicts:
            return (read_verdict(parse_attributes(payload)[_DATA_VERDICT]),)
        if len(self.data_kinds) == 1:
            kind = self.data_kinds[0]
            return (kind.decode(payload[4 : 4 + kind.size]),)
        parts, offset = [], 4
        for kind in self.data_kinds:
            parts.append(kind.decode(payload[offset : offset + kind.size]))
            offset += kind.padded
        return tuple(parts)


def _padded(size: int) -> int:
    return size + 3 & ~3


_pack_head = struct.Struct("=HH").pack


def _value_head(type: int, size: int) -> bytes:
    """The bytes in front of a value of `size` bytes: a nest that holds one NFTA_DATA_VALUE."""
    return struct.pack("=HHHH", _padded(size) + 8, type | _NESTED, size + 4, _DATA_VALUE)


def _pack_item_head(size: int) -> bytes:
    return _pack_head(size + 4, _ITEM | _NESTED)


def next_value(value: bytes) -> bytes | None:
    """The number behind `value` in as many bytes, None behind the highest."""
    number = int.from_bytes(value, "big") + 1
    try:
        return number.to_bytes(len(value), "big")
    except OverflowError:
        return None


def describe_element(element: Element) -> str:
    """How messages name an element."""
    key = " . ".join(map(str, element.first))
    if element.last is not None:
        key += " to " + " . ".join(map(str, element.last))
    return f"element {key} of {element.family} {element.table} {element.set}"
