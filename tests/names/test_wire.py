"""Messages by hand against messages by dnspython, and against nonsense."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linkspan.names import wire
from linkspan.names.wire import Malformed, read_question
from names.resolver_rules import STAGES, check

LABELS = st.binary(min_size=1, max_size=63)
NAMES = st.lists(LABELS, max_size=6).filter(lambda row: sum(map(len, row)) + len(row) < 255)


@given(
    labels=NAMES,
    type=st.integers(1, 65535).filter(lambda number: number != 41),
    edns=st.none() | st.tuples(st.integers(0, 65535), st.booleans()),
    id=st.integers(0, 65535),
)
def test_questions_are_read_as_dnspython_writes_them(
    labels: list[bytes], type: int, edns: tuple[int, bool] | None, id: int
) -> None:
    name = dns.name.Name([*labels, b""])
    more = {"use_edns": 0, "payload": edns[0], "want_dnssec": edns[1]} if edns else {}
    data = dns.message.make_query(name, type, id=id, **more).to_wire()
    question = read_question(data)
    assert question.name == name.to_wire().lower()
    assert (question.type, question.klass) == (type, 1)
    assert wire.labels_of(question.name) == [label.lower() for label in labels]
    if edns is None:
        assert question.edns is None
        assert question.limit == 512
    else:
        assert question.edns == (edns[0], 0, edns[1], False)
        assert question.limit == min(max(edns[0], 512), 4096)


@pytest.mark.parametrize(
    "text", ["db", "db.shop", "my_app.v2", "DB", "x" * 63, "münchen", ".".join(["abc"] * 63)]
)
def test_names_are_written_as_dnspython_writes_them(text: str) -> None:
    labels = [label.encode() for label in text.lower().split(".")]
    assert wire.encode_name(text) == dns.name.Name([*labels, b""]).to_wire()


@pytest.mark.parametrize("text", ["", "a..b", "x" * 64, ".a", ".".join(["abc"] * 64)])
def test_names_that_dns_cannot_say(text: str) -> None:
    assert wire.encode_name(text) is None


def test_compressed_and_endless_names_are_no_questions() -> None:
    header = b"\0\1\1\0\0\1\0\0\0\0\0\0"
    for name in (b"\xc0\x0c", b"\3abc\xc0\x0c", b"\x41" + b"x" * 65 + b"\0", b"\3ab", b"\1x" * 128):
        with pytest.raises(Malformed):
            read_question(header + name + b"\0\1\0\1")


def valid_queries() -> st.SearchStrategy[bytes]:
    """Well-formed questions about names that matter here, before they are damaged."""
    names = st.sampled_from(
        ["workers", "web", "web.shop", "_http._tcp.web", "3.0.20.10.in-addr.arpa", "example.org"]
    )
    types = st.sampled_from(["A", "AAAA", "ANY", "SRV", "PTR", "TXT", "AXFR", "OPT"])
    edns = st.sampled_from([-1, 0, 1])
    payload = st.sampled_from([0, 512, 1232, 65535])

    def build(name: str, type: str, version: int, size: int) -> bytes:
        return dns.message.make_query(name, type, use_edns=version, payload=size).to_wire()

    return st.builds(build, names, types, edns, payload)


def damaged(data: bytes, edits: list[tuple[int, int]], cut: int, more: bytes) -> bytes:
    changed = bytearray(data)
    for place, value in edits:
        changed[place % len(changed)] = value
    return bytes(changed[: len(changed) - cut % 8]) + more


EDITS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4)


@settings(max_examples=400)
@given(
    data=valid_queries(),
    edits=EDITS,
    cut=st.integers(0, 7),
    more=st.binary(max_size=12),
    where=st.sampled_from(sorted(STAGES)),
    stream=st.booleans(),
)
def test_damaged_questions_never_harm(
    data: bytes, edits: list[tuple[int, int]], cut: int, more: bytes, where: str, stream: bool
) -> None:
    check(STAGES[where], damaged(data, edits, cut, more), stream)


@settings(max_examples=300)
@given(data=st.binary(max_size=600), where=st.sampled_from(sorted(STAGES)))
@example(data=b"\0" * 12, where="open")
@example(data=b"\0\1\1\0\0\1\0\0\0\0\0\2" + b"\0\0\1\0\1" + b"\xc0" * 40, where="open")
def test_nonsense_never_harms(data: bytes, where: str) -> None:
    check(STAGES[where], data, False)


def test_complaints_are_few() -> None:
    stage = STAGES["open"]
    stage.listener.tick()
    bad = b"\0\1\1\0\0\7" + b"\0" * 6
    assert sum(len(stage.exchange(bad)) for _ in range(500)) == 100
    stage.listener.tick()
    assert len(stage.exchange(bad)) == 1
