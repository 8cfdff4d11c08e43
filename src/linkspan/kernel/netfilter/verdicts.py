"""Verdicts as nested attributes, in rules and as the data of verdict maps."""

from __future__ import annotations

import struct

from linkspan.errors import InvalidRequest
from linkspan.kernel.netlink.wire import attribute, nested, parse_attributes

_VERDICT = 2
"""NFTA_DATA_VERDICT"""
_CODE, _CHAIN = 1, 2

VERDICT_CODES = {
    "drop": 0, "accept": 1, "queue": 3, "continue": -1, "break": -2, "jump": -3, "goto": -4,
    "return": -5,
}  # fmt: skip
_VERDICT_NAMES = {code: name for name, code in VERDICT_CODES.items()}


def pack_verdict(text: str) -> bytes:
    """The attributes of a verdict: "accept", "jump CHAIN" (NFTA_VERDICT)."""
    name, _, target = text.partition(" ")
    code = VERDICT_CODES.get(name)
    if code is None or bool(target) != (name in ("jump", "goto")):
        raise InvalidRequest(f"{text!r} is not a verdict; write accept, drop, jump CHAIN, ...")
    parts = [attribute(_CODE, struct.pack(">i", code))]
    if target:
        parts.append(attribute(_CHAIN, target.encode() + b"\0"))
    return nested(_VERDICT, *parts)


def read_verdict(payload: bytes) -> str:
    """The text of a verdict's attributes."""
    found = parse_attributes(payload)
    code = struct.unpack(">i", found[_CODE])[0]
    name = _VERDICT_NAMES.get(code, str(code))
    chain = found.get(_CHAIN)
    return f"{name} {chain.rstrip(bytes(1)).decode()}" if chain else name
