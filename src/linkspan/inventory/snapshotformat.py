"""A look at a host as a file (.lks): written whole or not at all, read with distrust.

    bytes 0-7     89 4C 4B 53 0D 0A 1A 0A: no text file, and damaged by whatever rewrites lines
    8-9           version of the format; numbers are big-endian
    10-13, 14-17  size of the header, and its CRC-32
    header        zlib, msgpack: who, when, containers, and where each section is
    sections      one a namespace, one more for what linkspan had stored; zlib, msgpack

Every part says its size unpacked and its CRC-32 packed, so that a file that was cut off,
changed or made to swell is found before it is believed. The header lists the records and
their fields that the file is written with: one from a later linkspan that has more of them is
refused rather than half understood. Sections can be read one by one.
"""

from __future__ import annotations

import gc
import zlib
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import msgspec

from linkspan import __version__
from linkspan.dataplane import (
    Address,
    DataPlane,
    Element,
    FdbEntry,
    Link,
    Listener,
    Namespace,
    Neighbour,
    Object,
    PacketSocket,
    Part,
    Program,
    Route,
    Rule,
    Sysctl,
    Table,
    links,
    objects,
    rules,
    sockets,
)
from linkspan.dataplane.ruletext import statement_text
from linkspan.errors import SnapshotUnreadable
from linkspan.inventory.records import Container, HostView, Stored

MAGIC = b"\x89LKS\r\n\x1a\n"
FORMAT = 1
LARGEST_HEADER = 64 << 20
LARGEST = 512 << 20
"""Bytes of all sections unpacked; 1,000 containers take some 25 MB."""
KINDS: dict[str, type[Object]] = {
    "namespaces": Namespace,
    "tables": Table,
    "elements": Element,
    "links": Link,
    "addresses": Address,
    "routes": Route,
    "rules": Rule,
    "neighbours": Neighbour,
    "forwarding_entries": FdbEntry,
    "settings": Sysctl,
    "listeners": Listener,
    "packet_sockets": PacketSocket,
    "programs": Program,
}
"""All kinds of objects, by what a section calls them."""
_PREFIX = len(MAGIC) + 2 + 4 + 4
_STORED = "linkspan's own records"
_LEVEL = 4  # higher ones take several times as long for a tenth less


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Where one section is: `packed` and `size` in bytes, one behind the other."""

    namespace: str
    packed: int
    size: int
    checksum: int
    counts: dict[str, int] = {}
    """How many objects of each kind."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself before any section is read."""

    version: str
    """The linkspan that wrote it."""
    host: str
    kernel: str
    taken: float
    containers: tuple[Container, ...]
    unseen: tuple[str, ...]
    changing: tuple[str, ...]
    sections: tuple[Entry, ...]
    stored: Entry | None
    records: dict[str, tuple[str, ...]]
    """The fields of every record that occurs in a file."""

    @property
    def counts(self) -> dict[str, int]:
        """How many objects of each kind there are in all."""
        total: dict[str, int] = defaultdict(int)
        for entry in self.sections:
            for kind, count in entry.counts.items():
                total[kind] += count
        return dict(total)


class _Start(NamedTuple):
    """The fixed beginning of a file, and the header."""

    header: Header
    body: int
    """Where the sections begin."""


def encode(view: HostView) -> bytes:
    """A look at a host as the bytes of a file; `paths` are left out, which lead nowhere later."""
    by_namespace: dict[str, dict[str, list[Object]]] = {}
    names = {kind: name for name, kind in KINDS.items()}
    for item in view.plane:
        held = by_namespace.setdefault(item.namespace, {})
        held.setdefault(names[type(item)], []).append(item)
    pack = msgspec.msgpack.Encoder().encode
    parts: list[bytes] = []
    entries = [
        _pack(parts, name, _pack_objects(held), {kind: len(items) for kind, items in held.items()})
        for name, held in by_namespace.items()
    ]
    stored = None if view.stored is None else _pack(parts, _STORED, pack(view.stored), {})
    header = Header(
        version=__version__,
        host=view.host,
        kernel=view.kernel,
        taken=view.taken,
        containers=view.containers,
        unseen=view.unseen,
        changing=view.changing,
        sections=tuple(entries),
        stored=stored,
        records=_own_records(),
    )
    packed = zlib.compress(pack(header), _LEVEL)
    start = MAGIC + FORMAT.to_bytes(2, "big") + len(packed).to_bytes(4, "big")
    return b"".join((start, zlib.crc32(packed).to_bytes(4, "big"), packed, *parts))


def decode(data: bytes, name: str = "the snapshot") -> HostView:
    """The look at a host that a file holds; `name` is the file's, for messages.

    Raises SnapshotUnreadable: it is no snapshot, damaged, too large, or of a later linkspan;
    the message says which part, and what would be right.
    """
    header, place = _read_start(data, name)
    found: list[Object] = []
    section = _section_type()
    decoder = msgspec.msgpack.Decoder(section)
    sections, stored = header.sections, header.stored
    _check_sizes(data, place, (*sections, *((stored,) if stored else ())), name)
    # All that is made here stays: looking for garbage among it would only take time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for entry in sections:
            where = f"section {entry.namespace!r}"
            unpacked = _unpack(data[place : place + entry.packed], entry, name, where)
            held = _decode(decoder, unpacked, name, where)
            place += entry.packed
            for kind in KINDS:
                items: tuple[Object, ...] = getattr(held, kind)
                if any(item.namespace != entry.namespace for item in items):
                    raise _damaged(name, where, "it holds objects of another namespace")
                found += items
        try:
            plane = DataPlane(found)
        except ValueError as error:
            raise _damaged(name, "its sections", str(error)) from None
    finally:
        if collecting:
            gc.enable()
    known = None
    if stored is not None:
        unpacked = _unpack(data[place : place + stored.packed], stored, name, _STORED)
        known = _decode(msgspec.msgpack.Decoder(Stored), unpacked, name, _STORED)
    return HostView(
        plane=plane,
        containers=header.containers,
        unseen=header.unseen,
        changing=header.changing,
        taken=header.taken,
        host=header.host,
        kernel=header.kernel,
        stored=known,
    )


def decode_header(data: bytes, name: str = "the snapshot") -> Header:
    """What a snapshot says of itself. Raises SnapshotUnreadable."""
    return _read_start(data, name).header


# Writing ------------------------------------------------------------------------------


def _pack_objects(held: dict[str, list[Object]]) -> bytes:
    try:
        return msgspec.msgpack.encode(held)
    except OverflowError:
        return msgspec.msgpack.encode(
            {kind: [_without_long_numbers(item) for item in items] for kind, items in held.items()}
        )


def _without_long_numbers(item: Object) -> Object:
    """A format of 64-bit numbers has no place for longer ones, as some rules have: what says
    one becomes a statement that is not understood, which keeps its text.
    """
    if isinstance(item, Element):
        parts = ("first", "last", "data")
        return msgspec.structs.replace(
            item,
            **{n: tuple(map(_shortened, v)) for n in parts if (v := getattr(item, n)) is not None},
        )
    if not isinstance(item, Table):
        return item
    chains = (
        msgspec.structs.replace(
            chain,
            rules=tuple(
                msgspec.structs.replace(
                    rule, statements=tuple(_or_opaque(s, item.family) for s in rule.statements)
                )
                for rule in chain.rules
            ),
        )
        for chain in item.chains
    )
    return msgspec.structs.replace(item, chains=tuple(chains))


def _or_opaque(statement: rules.Statement, family: str) -> rules.Statement:
    try:
        msgspec.msgpack.encode(statement)
    except OverflowError:
        test = isinstance(statement, (rules.Match, rules.VerdictMap, rules.Flags))
        return rules.Opaque(statement_text(statement, family), test)
    return statement


def _shortened(part: Part) -> Part:
    return str(part) if isinstance(part, int) and part.bit_length() > 63 else part


def _pack(parts: list[bytes], name: str, data: bytes, counts: dict[str, int]) -> Entry:
    packed = zlib.compress(data, _LEVEL)
    parts.append(packed)
    return Entry(name, len(packed), len(data), zlib.crc32(packed), counts)


@cache
def _own_records() -> dict[str, tuple[str, ...]]:
    """The records that linkspan knows now, with their fields."""
    found: dict[str, tuple[str, ...]] = {}
    modules = (objects, links, rules, sockets)
    classes: list[Any] = [one for module in modules for one in vars(module).values()]
    for one in (*classes, *KINDS.values(), Container, Stored):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            found[one.__name__] = one.__struct_fields__
    return found


@cache
def _section_type() -> Any:
    """What is in a section: for each kind its objects, in the order they were found in."""
    fields: Iterable[Any] = ((name, tuple[kind, ...], ()) for name, kind in KINDS.items())  # type: ignore[valid-type]
    return msgspec.defstruct("Section", fields, frozen=True, forbid_unknown_fields=True)


# Reading ------------------------------------------------------------------------------


def _damaged(name: str, where: str, why: str) -> SnapshotUnreadable:
    return SnapshotUnreadable(
        f"{name}: {where} is damaged: {why}; take the snapshot again, or copy the file again"
    )


def _read_start(data: bytes, name: str) -> _Start:
    if not data.startswith(MAGIC):
        if data and MAGIC.startswith(data[: len(MAGIC)]):
            raise _damaged(name, "its beginning", f"the file ends after {len(data)} bytes")
        raise SnapshotUnreadable(
            f"{name} is no snapshot: it does not begin as one does; "
            "`linkspan snapshot save FILE` writes one"
        )
    if len(data) < _PREFIX:
        raise _damaged(name, "its beginning", f"the file ends after {len(data)} bytes")
    version = int.from_bytes(data[8:10], "big")
    if version != FORMAT:
        raise SnapshotUnreadable(
            f"{name} has format {version}, and linkspan {__version__} reads format {FORMAT}; "
            f"read it with the linkspan that wrote it{' or a later one' * (version > FORMAT)}"
        )
    size = int.from_bytes(data[10:14], "big")
    packed = data[_PREFIX : _PREFIX + size]
    if len(packed) < size:
        raise _damaged(name, "its header", f"the file ends {size - len(packed)} bytes too early")
    entry = Entry("", size, LARGEST_HEADER, int.from_bytes(data[14:18], "big"))
    text = _unpack(packed, entry, name, "its header", exact=False)
    raw = _decode(msgspec.msgpack.Decoder(), text, name, "its header")
    if isinstance(raw, dict):
        _check_records(raw.get("records"), raw.get("version"), name)
    try:
        header = msgspec.convert(raw, Header)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _damaged(name, "its header", str(error)) from None
    return _Start(header, _PREFIX + size)


def _check_records(records: object, version: object, name: str) -> None:
    """Refuse what has records or fields that nobody here would look at."""
    if not isinstance(records, dict):
        raise _damaged(name, "its header", "it does not say which records are in the file")
    own = _own_records()
    for record, fields in records.items():
        known = own.get(record, ())
        more = [field for field in fields if field not in known] if record in own else [""]
        if more:
            what = f"{record}.{more[0]}".rstrip(".")
            raise SnapshotUnreadable(
                f"{name} was written by linkspan {version} and has {what}, which linkspan "
                f"{__version__} does not know; read it with that version or a later one"
            )


def _check_sizes(data: bytes, place: int, entries: tuple[Entry, ...], name: str) -> None:
    total = sum(entry.size for entry in entries)
    if total > LARGEST or any(min(entry.size, entry.packed) < 0 for entry in entries):
        raise SnapshotUnreadable(
            f"{name} says that it takes {total >> 20} MiB unpacked; more than {LARGEST >> 20} MiB "
            "are not read"
        )
    end = place
    for entry in entries:
        end += entry.packed
        if end > len(data):
            what = f"section {entry.namespace!r}"
            raise _damaged(name, what, f"the file ends {end - len(data)} bytes before its end")
    if end < len(data):
        raise _damaged(name, "its end", f"{len(data) - end} bytes follow the last section")


def _unpack(packed: bytes, entry: Entry, name: str, where: str, exact: bool = True) -> bytes:
    if zlib.crc32(packed) != entry.checksum:
        raise _damaged(name, where, "its checksum is another one")
    # Never more than the header promised, whatever the bytes would swell to.
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(packed, entry.size + 1)
    except zlib.error as error:
        raise _damaged(name, where, str(error)) from None
    if len(data) > entry.size or (exact and len(data) < entry.size) or not engine.eof:
        raise _damaged(name, where, f"it is not the {entry.size} bytes long that it should be")
    return data


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes, name: str, where: str) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(name, where, str(error)) from None
    except RecursionError:
        raise _damaged(name, where, "it is nested too deeply") from None
