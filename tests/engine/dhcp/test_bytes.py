"""Messages and frames as bytes, against another implementation and against damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.engine.dhcp import messages as dhcp
from linkspan.engine.dhcp.frames import Datagram, checksum, pack_frame, unpack_frame
from linkspan.engine.dhcp.messages import Message, pack_message, unpack_message

MAC = "02:00:00:00:00:05"
addresses = st.ip_addresses(v=4).map(str)
macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
messages = st.builds(
    Message,
    transaction=st.integers(0, 2**32 - 1),
    mac=macs,
    from_client=st.booleans(),
    seconds=st.integers(0, 2**16 - 1),
    broadcast=st.booleans(),
    client_address=addresses,
    your_address=addresses,
    relay_address=addresses,
    options=st.dictionaries(
        st.integers(1, 254).filter(lambda number: number != dhcp.OVERLOAD),
        st.binary(max_size=255),
        max_size=8,
    ),
)


@given(messages)
def test_a_message_is_read_as_it_was_written(message):
    assert unpack_message(pack_message(message)) == message


@given(st.binary(max_size=600))
def test_damage_is_refused_or_read_but_never_breaks(data):
    for made in (data, pack_message(Message(transaction=1, mac=MAC))[:240] + data):
        try:
            unpack_message(made)
        except ValueError:
            pass
    unpack_frame(data)


def test_another_implementation_reads_it():
    pyroute2 = pytest.importorskip("pyroute2.dhcp.dhcp4msg")
    options = {dhcp.MESSAGE_TYPE: bytes((dhcp.DISCOVER,)), dhcp.HOST_NAME: b"web"}
    packed = pack_message(Message(transaction=0x01020304, mac=MAC, options=options))
    read = pyroute2.dhcp4msg(buf=packed).decode()
    assert (read["xid"], read["chaddr"]) == (0x01020304, MAC)
    assert read["options"]["message_type"] == dhcp.DISCOVER
    assert read["options"]["host_name"] in (b"web", "web")


def test_a_long_option_in_parts_is_put_together():
    data = pack_message(Message(transaction=1, mac=MAC))[:240]
    parts = bytes((6, 4)) + bytes(range(4)) + bytes((0, 6, 4)) + bytes(range(4, 8)) + b"\xff"
    assert unpack_message(data + parts).options == {6: bytes(range(8))}


def test_options_go_on_in_the_fields_of_names():
    data = bytearray(pack_message(Message(transaction=1, mac=MAC))[:240])
    data[108:114] = bytes((15, 3)) + b"lan" + b"\xff"
    data[44:49] = bytes((12, 2)) + b"me" + b"\xff"
    found = unpack_message(bytes(data) + bytes((dhcp.OVERLOAD, 1, 3, 255))).options
    assert (found[15], found[12]) == (b"lan", b"me")


@given(st.binary(max_size=100), addresses, addresses, macs)
def test_a_frame_is_read_as_it_was_written(payload, source, destination, mac):
    datagram = Datagram(payload=payload, source_mac=mac, source=source, destination=destination)
    frame = pack_frame(datagram)
    assert unpack_frame(frame) == datagram
    assert unpack_frame(frame + bytes(60)) == datagram  # padding of short frames
    assert checksum(frame[14:34]) == 0
    pseudo = frame[26:34] + bytes((0, 17)) + frame[38:40]
    assert checksum(pseudo + frame[34:]) in (0, 0xFFFF)


def test_what_is_no_whole_datagram_is_passed_over():
    frame = pack_frame(Datagram(payload=b"x" * 20, source_mac=MAC, source="0.0.0.0"))
    assert unpack_frame(frame[:-1]) is None
    assert unpack_frame(frame[:20] + b"\x20" + frame[21:]) is None  # a fragment
    assert unpack_frame(frame[:12] + b"\x08\x06" + frame[14:]) is None
    assert unpack_frame(frame[:24] + b"\0\0" + frame[26:]) is None  # the header's checksum
