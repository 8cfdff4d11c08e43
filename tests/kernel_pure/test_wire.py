"""Bytes of messages and attributes, without a kernel."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.errors import InvalidRequest
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.socket import Refusal, read_refusal
from linkspan.kernel.netlink.text import (
    address_bytes,
    address_text,
    mac_bytes,
    mac_text,
    split_prefix,
)

payloads = st.binary(max_size=60)
types = st.integers(1, 0x3FFF)


@given(st.lists(st.tuples(types, payloads), max_size=8))
def test_attributes_come_back(rows: list[tuple[int, bytes]]) -> None:
    data = b"".join(wire.attribute(type, payload) for type, payload in rows)
    assert len(data) % 4 == 0
    assert list(wire.iterate_attributes(data)) == rows
    assert wire.parse_attributes(data) == dict(rows)


@given(st.lists(st.tuples(types, payloads), max_size=8), payloads)
def test_attributes_behind_a_fixed_part_come_back(rows, fixed: bytes) -> None:
    data = fixed + b"".join(wire.attribute(type, payload) for type, payload in rows)
    assert wire.parse_attributes(data, len(fixed)) == dict(rows)


@given(st.lists(st.tuples(types, st.integers(0, 0xFFFF), payloads), max_size=5))
def test_messages_come_back(rows: list[tuple[int, int, bytes]]) -> None:
    padded = []
    for number, (type, flags, payload) in enumerate(rows):
        message = wire.pack_message(type, flags, number, payload)
        padded.append(message + bytes(-len(message) % 4))
    assert list(wire.parse_messages(b"".join(padded))) == [
        (type, flags, number, payload) for number, (type, flags, payload) in enumerate(rows)
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """The kernel is trusted, but damage must not make an endless loop."""
    wire.parse_attributes(data)
    list(wire.iterate_attributes(data))
    with contextlib.suppress(ValueError):
        list(wire.parse_messages(data))


@given(st.lists(types, max_size=4), payloads)
def test_attributes_nest(path: list[int], payload: bytes) -> None:
    data = payload
    for type in reversed(path):
        data = wire.attribute(type, data) if data is payload else wire.nested(type, data)
    for type in path:
        (inner,) = wire.parse_attributes(data).items()
        assert inner[0] == type
        data = inner[1]
    assert data == payload


@pytest.mark.parametrize(
    ("made", "layout", "value"),
    [
        (wire.attribute_u8(9, 0xFE), "=B", 0xFE),
        (wire.attribute_u16(9, 0xFEDC), "=H", 0xFEDC),
        (wire.attribute_u16_big(9, 0xFEDC), "!H", 0xFEDC),
        (wire.attribute_u32(9, 0xFEDCBA98), "=I", 0xFEDCBA98),
        (wire.attribute_s32(9, -2), "=i", -2),
        (wire.attribute_u64(9, 1 << 63), "=Q", 1 << 63),
    ],
)
def test_numbers_have_their_size_and_order(made: bytes, layout: str, value: int) -> None:
    assert wire.attribute(9, struct.pack(layout, value)) == made


def test_text_ends_with_a_zero_byte() -> None:
    assert wire.parse_attributes(wire.attribute_text(3, "eth0"))[3] == b"eth0\0"
    assert wire.read_text(b"eth0\0") == "eth0"


def error_message(number: int, *attributes: bytes, request: bytes | None = None) -> bytes:
    header = wire.pack_message(16, 0, 7, request or b"")
    echoed = header if request is not None else header[:16]
    return struct.pack("=i", -number) + echoed + b"".join(attributes)


def test_an_acknowledgement_is_no_refusal() -> None:
    assert read_refusal(wire.CAPPED, error_message(0)) is None


def test_a_refusal_has_the_kernels_words() -> None:
    words = wire.attribute_text(1, "Nexthop has invalid gateway")
    flags = wire.CAPPED | wire.ACK_ATTRIBUTES
    assert read_refusal(flags, error_message(22, words)) == Refusal(
        22, "Nexthop has invalid gateway"
    )


def test_a_refusal_that_repeats_the_request_is_read_behind_it() -> None:
    words = wire.attribute_text(1, "no")
    message = error_message(22, words, request=b"12345678")
    assert read_refusal(wire.ACK_ATTRIBUTES, message) == Refusal(22, "no")


def test_a_refused_end_of_a_dump_has_its_words_at_once() -> None:
    message = struct.pack("=i", -22) + wire.attribute_text(1, "no")
    assert read_refusal(wire.ACK_ATTRIBUTES, message, wire.DONE) == Refusal(22, "no")


def test_a_missing_attribute_is_named_by_its_number() -> None:
    missing = wire.attribute_u32(5, 3)
    found = read_refusal(wire.CAPPED | wire.ACK_ATTRIBUTES, error_message(22, missing))
    assert found == Refusal(22, "attribute 3 is missing")


@given(st.ip_addresses())
def test_addresses_are_written_as_everybody_writes_them(address) -> None:
    data = address_bytes(str(address))
    assert data == address.packed
    if not (address.version == 6 and address.packed[:10] == bytes(10)):
        assert address_text(data) == str(address)


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.256", "fd00::g", "host", "10.0.0.1/24"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not an IP address"):
        address_bytes(text)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.0/", "fd00::/129", "10.0.0.0/-1", "::/x"])
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="prefix length"):
        split_prefix(text)


def test_a_prefix_without_length_is_one_address() -> None:
    assert split_prefix("10.0.0.1") == (b"\x0a\0\0\1", 32)
    assert split_prefix("fd00::/8") == (b"\xfd" + bytes(15), 8)


def test_hardware_addresses() -> None:
    assert mac_text(mac_bytes("02:42:0a:14:00:02")) == "02:42:0a:14:00:02"
    for wrong in ("", "02:42:zz:14:00:02", "nonsense"):
        with pytest.raises(InvalidRequest, match="hardware address"):
            mac_bytes(wrong)
