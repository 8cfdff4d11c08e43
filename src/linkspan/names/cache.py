"""A small cache of answers from outside, which keeps to their time to live.

Answers are kept as they came and given again with the time that has passed taken off. What
says "no such name" or "no such type" is kept as RFC 2308 has it: for as long as the zone's
SOA record says, and not at all without one.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from typing import NamedTuple

from linkspan.names import wire

LARGEST = 4096
"""Answers."""
LONGEST, LONGEST_NEGATIVE = 3600, 300
"""Seconds that an answer is kept at most, whatever it says of itself."""
_SOA = 6
_TRUNCATED = 0x0200
_counts = struct.Struct(">HHHH")
_ttl = struct.Struct(">I")


class _Kept(NamedTuple):
    body: bytes
    """Without the id."""
    ttls: tuple[int, ...]
    """Where the times to live are in the body."""
    stored: float
    expires: float


class Cache:
    """Answers by what was asked, of whom. The oldest make room for new ones."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._kept: dict[Hashable, _Kept] = {}
        self._largest = largest

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def get(self, key: Hashable, now: float) -> bytes | None:
        """An answer without its id, aged; None when there is none that lives."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if now >= kept.expires:
            del self._kept[key]
            return None
        passed = int(now - kept.stored)
        if not passed:
            return kept.body
        aged = bytearray(kept.body)
        for place in kept.ttls:
            (ttl,) = _ttl.unpack_from(aged, place)
            _ttl.pack_into(aged, place, max(ttl - passed, 0))
        return bytes(aged)

    def put(self, key: Hashable, answer: bytes, now: float) -> None:
        """Keep a whole answer for as long as it may be kept, which may be not at all."""
        try:
            life, ttls = read_life(answer)
        except (wire.Malformed, IndexError, struct.error):
            return
        if life <= 0:
            return
        self._kept.pop(key, None)
        while len(self._kept) >= self._largest:
            del self._kept[next(iter(self._kept))]
        places = tuple(place - 2 for place in ttls)
        self._kept[key] = _Kept(answer[2:], places, now, now + life)


def read_life(answer: bytes) -> tuple[int, tuple[int, ...]]:
    """How many seconds an answer may be kept (0: not), and where its times to live are.

    Raises Malformed, IndexError, struct.error for what is no message.
    """
    flags = answer[2] << 8 | answer[3]
    questions, answers, authorities, additional = _counts.unpack_from(answer, 4)
    code = flags & 15
    if flags & _TRUNCATED or questions != 1 or code not in (wire.NOERROR, wire.NXDOMAIN):
        return 0, ()
    position = wire.skip_name(answer, wire.HEADER) + 4
    places: list[int] = []
    lives: list[int] = []
    negative: int | None = None
    for number in range(answers + authorities + additional):
        position = wire.skip_name(answer, position)
        type, _, ttl, length = struct.unpack_from(">HHIH", answer, position)
        end = position + 10 + length
        if end > len(answer):
            raise wire.Malformed
        if type == wire.OPT:
            if ttl >> 24:
                return 0, ()  # the rest of a code that is no success (RFC 6891, section 6.1.3)
        else:
            places.append(position + 4)
            # The sign bit means zero (RFC 2181, section 8).
            lives.append(0 if ttl >> 31 else ttl)
        if type == _SOA and answers <= number < answers + authorities and length >= 20:
            (minimum,) = _ttl.unpack_from(answer, end - 4)
            negative = min(lives[-1], minimum)
        position = end
    if answers and code == wire.NOERROR:
        return min([LONGEST, *lives]), tuple(places)
    if negative is None:
        return 0, ()
    return min([LONGEST_NEGATIVE, negative, *lives]), tuple(places)
