"""A look at a host survives being written and read; what is no such file is refused in words."""

from __future__ import annotations

import resource
import zlib

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.planes import planes
from dataplane.records import any_objects, concrete_kinds
from linkspan.dataplane import Chain, DataPlane, Element, FirewallRule, Link, Table
from linkspan.dataplane.rules import Ct, Masked, Match, Opaque, SetField
from linkspan.errors import SnapshotUnreadable
from linkspan.inventory import snapshotformat
from linkspan.inventory.records import Container, HostView, Stored
from linkspan.inventory.snapshotformat import (
    FORMAT,
    KINDS,
    MAGIC,
    Entry,
    Header,
    decode,
    decode_header,
    encode,
)

VIEW = HostView(
    plane=DataPlane((Link(name="lo"), Link(namespace="shop", name="eth0", mtu=1500))),
    containers=(Container(namespace="shop", name="shop", runtime="docker", aliases=("abc",)),),
    unseen=("/run/x could not be read",),
    changing=("shop",),
    taken=1234.5,
    host="quay",
    kernel="6.1.0",
    stored=Stored(entries={"unique_local": b"fd00::/48"}, settings=b"{}"),
)


@given(planes())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_plane_comes_back_as_it_was(plane: DataPlane):
    assert decode(encode(HostView(plane=plane))).plane == plane


@given(st.lists(any_objects(), max_size=4, unique_by=lambda item: item.key))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_field_of_every_kind_comes_back(objects):
    plane = DataPlane(objects)
    back = decode(encode(HostView(plane=plane))).plane
    assert back == plane
    assert {item.key: type(item) for item in back} == {item.key: type(item) for item in plane}


def test_all_that_a_look_holds_comes_back_but_the_paths():
    assert decode(encode(VIEW)) == VIEW
    assert decode(encode(msgspec.structs.replace(VIEW, paths={"shop": "/proc/1/ns/net"}))) == VIEW


def test_objects_of_one_kind_keep_their_order():
    links = [Link(name=f"l{number}") for number in (3, 1, 2)]
    back = decode(encode(HostView(plane=DataPlane(links)))).plane
    assert [item.name for item in back.of(Link)] == ["l3", "l1", "l2"]


def test_every_kind_of_object_has_its_place_in_a_section():
    assert sorted(one.__name__ for one in KINDS.values()) == [
        one.__name__ for one in concrete_kinds()
    ]


def test_every_field_of_a_look_is_in_the_header_or_a_section():
    assert set(HostView.__struct_fields__) - {"plane", "paths"} <= set(Header.__struct_fields__)


def test_numbers_longer_than_64_bits_are_kept_as_text():
    statements = (
        Match(Masked(Ct("label"), 1 << 100), 1 << 100),
        SetField(Ct("label"), 1 << 90),
        SetField(Ct("mark"), 7),
    )
    chain = Chain(name="c", rules=(FirewallRule(statements),))
    table = Table(family="ip", name="t", chains=(chain,))
    element = Element(table="t", set="s", first=(1 << 80, 5))
    back = decode(encode(HostView(plane=DataPlane((table, element))))).plane
    (read,) = back.of(Table)
    test, effect, kept = read.chains[0].rules[0].statements
    assert isinstance(test, Opaque)
    assert test.test
    assert "ct label" in test.text
    assert isinstance(effect, Opaque)
    assert not effect.test
    assert kept == statements[2]
    assert [item.first for item in back.of(Element)] == [(str(1 << 80), 5)]


def test_the_header_counts_what_is_in_the_file():
    header = decode_header(encode(VIEW))
    assert header.counts == {"links": 2}
    assert [entry.namespace for entry in header.sections] == ["host", "shop"]
    assert header.host == "quay"


# Bad input ----------------------------------------------------------------------------


def test_something_else_is_no_snapshot():
    for data in (b"", b"# nft", b"\x00" * 100, b"PK\x03\x04"):
        with pytest.raises(SnapshotUnreadable, match=r"x\.lks is no snapshot"):
            decode(data, "x.lks")


def test_a_file_that_ends_anywhere_too_early_is_refused():
    data = encode(VIEW)
    for size in range(1, len(data)):
        with pytest.raises(SnapshotUnreadable, match=r"x\.lks: .* is damaged: the file ends"):
            decode(data[:size], "x.lks")


def test_a_file_with_more_at_its_end_is_refused():
    with pytest.raises(SnapshotUnreadable, match="3 bytes follow the last section"):
        decode(encode(VIEW) + b"abc")


def test_any_changed_byte_is_noticed():
    data = encode(VIEW)
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
        with pytest.raises(SnapshotUnreadable):
            decode(changed)


def test_a_damaged_section_is_named():
    data = bytearray(encode(VIEW))
    header = decode_header(bytes(data))
    stored = header.stored
    assert stored is not None
    data[len(data) - stored.packed - 3] ^= 1  # in the last section of a namespace
    with pytest.raises(SnapshotUnreadable, match="section 'shop' is damaged: its checksum"):
        decode(bytes(data))


@given(st.binary(max_size=200))
def test_garbage_behind_a_right_beginning_is_refused(garbage: bytes):
    with pytest.raises(SnapshotUnreadable):
        decode(MAGIC + garbage)


def test_a_later_format_says_so():
    data = encode(VIEW)
    later = data[:8] + (FORMAT + 1).to_bytes(2, "big") + data[10:]
    with pytest.raises(SnapshotUnreadable, match=f"format {FORMAT + 1}.*later one"):
        decode(later)


def rewritten(change) -> bytes:
    """VIEW's file with another header."""
    data = encode(VIEW)
    size = int.from_bytes(data[10:14], "big")
    raw = msgspec.msgpack.decode(zlib.decompress(data[18 : 18 + size]))
    change(raw)
    packed = zlib.compress(msgspec.msgpack.encode(raw))
    start = data[:10] + len(packed).to_bytes(4, "big") + zlib.crc32(packed).to_bytes(4, "big")
    return start + packed + data[18 + size :]


def test_a_record_with_a_field_from_the_future_says_which_and_whose():
    def change(raw):
        raw["version"] = "9.9"
        raw["records"]["Link"].append("colour")

    with pytest.raises(SnapshotUnreadable, match=r"written by linkspan 9\.9 and has Link\.colour"):
        decode(rewritten(change))
    with pytest.raises(SnapshotUnreadable, match="has Wormhole, which"):
        decode(rewritten(lambda raw: raw["records"].update(Wormhole=["exit"])))


def test_a_header_that_says_nonsense_is_refused():
    def swap_names(raw):
        raw["sections"][0][0], raw["sections"][1][0] = "shop", "host"

    for change, said in (
        (lambda raw: raw.update(taken="today"), "its header is damaged"),
        (lambda raw: raw.pop("records"), "does not say which records"),
        (lambda raw: raw.pop("sections"), "its header is damaged"),
        (swap_names, "objects of another namespace"),
    ):
        with pytest.raises(SnapshotUnreadable, match=said):
            decode(rewritten(change))


def test_a_file_that_would_swell_stays_small_in_memory():
    bomb = zlib.compress(bytes(600 << 20), 9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def promise(size):
        entry = Entry("host", len(bomb), size, zlib.crc32(bomb))
        return lambda raw: raw.update(sections=[entry], stored=None)

    start = rewritten(promise(1000))
    start = start[: 18 + int.from_bytes(start[10:14], "big")]
    with pytest.raises(SnapshotUnreadable, match="not the 1000 bytes long"):
        decode(start + bomb)
    honest = rewritten(promise(600 << 20))
    honest = honest[: 18 + int.from_bytes(honest[10:14], "big")]
    with pytest.raises(SnapshotUnreadable, match="600 MiB unpacked; more than 512 MiB"):
        decode(honest + bomb)
    header = zlib.compress(bytes(200 << 20), 9)
    start = MAGIC + FORMAT.to_bytes(2, "big") + len(header).to_bytes(4, "big")
    with pytest.raises(SnapshotUnreadable, match="its header is damaged"):
        decode(start + zlib.crc32(header).to_bytes(4, "big") + header)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 900 << 10


def test_records_nested_without_end_are_refused():
    def packed_text(text: str) -> bytes:
        return bytes([0xA0 | len(text)]) + text.encode()

    # A map of three: what it is, its mask, and the expression in it.
    inside = packed_text("is") + packed_text("masked") + packed_text("mask") + b"\1"
    deep = (b"\x83" + inside + packed_text("expression")) * 100_000
    match = b"\x82" + packed_text("is") + packed_text("match") + packed_text("left") + deep
    rule = b"\x81" + packed_text("statements") + b"\x91" + match
    chain = b"\x82" + packed_text("name") + packed_text("c") + packed_text("rules") + b"\x91" + rule
    names = [packed_text(text) for text in ("family", "ip", "name", "t", "chains")]
    section = b"\x81" + packed_text("tables") + b"\x91\x83" + b"".join(names) + b"\x91" + chain
    packed = zlib.compress(section)
    entry = Entry("host", len(packed), len(section), zlib.crc32(packed))
    start = rewritten(lambda raw: raw.update(sections=[entry], stored=None))
    start = start[: 18 + int.from_bytes(start[10:14], "big")]
    with pytest.raises(SnapshotUnreadable, match="nested too deeply"):
        decode(start + packed)


def test_loading_leaves_garbage_collection_as_it_was():
    import gc

    assert gc.isenabled()
    decode(encode(VIEW))
    assert gc.isenabled()
    with pytest.raises(SnapshotUnreadable):
        decode(encode(VIEW) + b"x")
    assert gc.isenabled()


def test_what_linkspan_writes_fits_what_it_reads():
    assert snapshotformat.LARGEST >= 100 << 20
