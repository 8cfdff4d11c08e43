"""What expressions are compared with, and what maps give, from nft's JSON."""

from __future__ import annotations

from typing import Any, TypeAlias

from linkspan.dataplane.objects import Part
from linkspan.dataplane.rules import Named, Range, SetOf, Value, Verdict
from linkspan.kernel.netfilter.nftjson.expressions import NotUnderstoodError

Row: TypeAlias = Part | Range | tuple[Part | Range, ...]

_PLAIN_VERDICTS = ("accept", "drop", "continue", "return")


def read_value(item: Any) -> Value:
    """The right side of a comparison: a value, range, prefix, or a set with or without name."""
    match item:
        case {"set": list(rows)}:
            return SetOf(tuple(read_row(row) for row in rows))
        case {"set": single}:
            return SetOf((read_row(single),))
        case str() if item.startswith("@"):
            return Named(item[1:])
    return read_single(item)


def read_single(item: Any) -> Part | Range:
    """One value: text, a number, a prefix as text, or a range."""
    match item:
        case bool():
            raise NotUnderstoodError
        case str() | int():
            return item
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            return f"{address}/{length}"
        case {"range": [first, last]}:
            return Range(_plain(first), _plain(last))
        case {"elem": {"val": inner}}:
            return read_single(inner)
    raise NotUnderstoodError


def read_row(item: Any) -> Row:
    """A key of a set or map: one value, or a tuple of them for a concatenation."""
    match item:
        case {"elem": {"val": inner}}:
            return read_row(inner)
        case {"concat": list(parts)}:
            return tuple(map(read_single, parts))
    return read_single(item)


def _plain(item: Any) -> Part:
    if isinstance(item, bool) or not isinstance(item, (str, int)):
        raise NotUnderstoodError
    return item


def read_verdict(item: Any) -> Verdict:
    """accept, drop, continue, return, queue, and jumps to chains."""
    match item:
        case {"jump": {"target": str(target)}}:
            return Verdict("jump", target)
        case {"goto": {"target": str(target)}}:
            return Verdict("goto", target)
        case {"queue": _}:
            return Verdict("queue")
        case dict() if len(item) == 1:
            (name,) = item
            if name in _PLAIN_VERDICTS:
                return Verdict(name)
    raise NotUnderstoodError


def read_data(item: Any) -> Part | tuple[Part, ...]:
    """What a map other than one of verdicts gives; ranges of a kind as text ("80-90")."""
    match item:
        case {"elem": {"val": inner}}:
            return read_data(inner)
        case {"concat": list(parts)}:
            return tuple(_as_part(read_single(part)) for part in parts)
    return _as_part(read_single(item))


def _as_part(value: Part | Range) -> Part:
    return f"{value.first}-{value.last}" if isinstance(value, Range) else value
