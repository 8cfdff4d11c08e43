"""Moments and durations as Docker's clients write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from linkspan.errors import InvalidRequest

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time, which Docker shows for what has not happened."""

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNIT = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{0,20})?")


def show_nanoseconds(seconds: float) -> int:
    """Unix seconds as nanoseconds. Our clock's reading is right to the microsecond."""
    return round(seconds * 1e6) * 1000


def show_moment(seconds: float | None) -> str:
    """Unix seconds in UTC as RFC 3339 with as many digits as there are; NEVER for None."""
    if seconds is None:
        return NEVER
    whole, rest = divmod(round(seconds * 1e6), 1_000_000)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f".{rest:06d}".rstrip("0").rstrip(".")
    return f"{text}{digits}Z"


def read_moment(text: str, now: float) -> float:
    """A moment in Unix seconds: a duration before `now` ("10m", "1h30m"), RFC 3339 with or
    without zone (then UTC), a date, or Unix seconds. Raises InvalidRequest.
    """
    pieces = _DURATION.findall(text)
    if pieces and "".join(number + unit for number, unit in pieces) == text:
        return now - sum(float(number) * _UNIT[unit] for number, unit in pieces)
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        # Nine digits are Go's; Python reads six.
        moment = datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{text!r} is no moment: expected a duration like 10m, a time like "
            "2026-05-01T12:00:00Z, or Unix seconds"
        ) from None


def read_seconds(name: str, text: str) -> float | None:
    """Unix seconds with up to nine digits behind the point; None for "". Raises InvalidRequest."""
    if not text:
        return None
    if not _SECONDS.fullmatch(text):
        raise InvalidRequest(f"invalid value for '{name}': {text!r}; expected Unix seconds")
    return float(text)


_LENGTHS = (
    (46, 60, "minute", "About a minute"),
    (48, 3600, "hour", "About an hour"),
    (14, 86400, "day", "1 day"),
    (8, 604800, "week", "1 week"),
    (24, 2592000, "month", "1 month"),
)


def show_length(seconds: float) -> str:
    """A length of time in words, as `docker ps` has it: "5 seconds", "About an hour"."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds < 2 else f"{int(seconds)} seconds"
    for most, unit, word, single in _LENGTHS:
        # An hour is called so when it is nearly one; all others are counted whole.
        count = round(seconds / unit) if word == "hour" else int(seconds // unit)
        if count <= most:
            return single if count <= 1 else f"{count} {word}s"
    return f"{int(seconds // 31536000)} years"
