"""What a packet has, from nft's JSON."""

from __future__ import annotations

from typing import Any, Final

from linkspan.dataplane.rules import (
    Concat,
    Ct,
    Expression,
    Fib,
    Masked,
    Meta,
    Numgen,
    Payload,
    Socket,
)
from linkspan.kernel.netfilter.values import CT_STATES, CT_STATUSES, TCP_FLAGS

ALL_BITS: Final = 0xFFFFFFFF


class NotUnderstoodError(Exception):
    """Part of a statement has no words in the rule language; its reader makes it Opaque."""


def read_expression(item: Any) -> Expression:
    """An expression; raises NotUnderstoodError for one that the language cannot say."""
    match item:
        case {"meta": {"key": str(key)}}:
            return Meta(key)
        case {"payload": {"protocol": str(protocol), "field": str(field)}}:
            return Payload(protocol, field)
        case {"payload": {"base": str(base), "offset": int(offset), "len": int(length)}}:
            return Payload(f"@{base}", f"{offset},{length}")
        case {"tcp option": {"name": str(name), "field": str(field)}}:
            return Payload(f"tcp option {name}", field)
        case {"ct": {"key": str(key)}}:
            return _connection(key, item["ct"])
        case {"fib": {"result": str(result), "flags": flags}}:
            return Fib(result, tuple(flags) if isinstance(flags, list) else (str(flags),))
        case {"socket": {"key": str(key)}}:
            return Socket(key)
        case {"numgen": {"mode": str(mode), "mod": int(modulus)}}:
            return Numgen(mode, modulus, int(item["numgen"].get("offset") or 0))
        case {"concat": list(parts)}:
            return Concat(tuple(map(read_expression, parts)))
        case {"&": _} | {"|": _} | {"^": _}:
            inner, mask, xor = read_bitwise(item)
            return Masked(inner, mask, xor)
    raise NotUnderstoodError


def _connection(key: str, rest: dict[str, Any]) -> Ct:
    family = rest.get("family")
    if isinstance(family, str):
        key = f"{family} {key}"
    direction = rest.get("dir")
    return Ct(key, direction if isinstance(direction, str) else None)


def read_bitwise(item: Any) -> tuple[Expression, int, int]:
    """Nested &, | and ^ with constants as (expression, mask, xor): (x & mask) ^ xor."""
    match item:
        case {"&": [inner, *numbers]}:
            expression, mask, xor = read_bitwise(inner)
            for number in numbers:
                bits = read_bits(number, expression)
                mask, xor = mask & bits, xor & bits
        case {"|": [inner, *numbers]}:
            expression, mask, xor = read_bitwise(inner)
            for number in numbers:
                bits = read_bits(number, expression)
                mask, xor = mask & ~bits & ALL_BITS, xor | bits
        case {"^": [inner, *numbers]}:
            expression, mask, xor = read_bitwise(inner)
            for number in numbers:
                xor ^= read_bits(number, expression)
        case _:
            return read_expression(item), ALL_BITS, 0
    return expression, mask, xor


def read_bits(item: Any, left: Expression) -> int:
    """A constant of an operation on bits: a number, or names of bits, alone or together."""
    match item:
        case bool():
            raise NotUnderstoodError
        case int():
            return item
        case str():
            names = _bit_names(left)
            if item in names:
                return names[item]
            try:
                return int(item, 0)
            except ValueError:
                raise NotUnderstoodError from None
        case list() | {"|": list()}:
            found = 0
            for part in item if isinstance(item, list) else item["|"]:
                found |= read_bits(part, left)
            return found
    raise NotUnderstoodError


def _bit_names(left: Expression) -> dict[str, int]:
    match left:
        case Payload("tcp", "flags"):
            return TCP_FLAGS
        case Ct("state"):
            return CT_STATES
        case Ct("status"):
            return CT_STATUSES
    return {}
