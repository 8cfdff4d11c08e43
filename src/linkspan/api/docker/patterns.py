"""Names matched by a pattern that a client sent, in bounded time.

Docker uses Go's engine, whose time is linear. Python's goes back and tries again, so a
pattern that could keep it busy for long is refused before it runs.
"""

from __future__ import annotations

import functools
import math
import re
import warnings

from linkspan.errors import InvalidRequest

LONGEST_PATTERN = 256
LONGEST_SUBJECT = 128
"""Names are as long at most, ids half of it."""
MOST_STEPS = 10_000_000
"""Ways in which a pattern may be tried at a name; about a second's work."""

_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.S)


@functools.lru_cache(64)
def compile_pattern(text: str) -> re.Pattern[str] | None:
    """The pattern; None for one that is malformed, which matches nothing.

    Raises:
        InvalidRequest: it is too long, or could take too long to match.
    """
    if len(text) > LONGEST_PATTERN:
        raise InvalidRequest(f"a filter has {len(text)} characters; the most is {LONGEST_PATTERN}")
    # What is escaped or in brackets is one character each, and repeats nothing by itself.
    bare = _CLASS.sub("x", text)
    repeats = sum(bare.count(sign) for sign in "*+?{")
    # Every choice is made on the way, a repeat at each of the places that are left.
    ways = math.comb(LONGEST_SUBJECT + repeats + 1, repeats + 1) * 2 ** bare.count("|")
    if re.search(r"\)[*+?{]|\(\?", bare) or re.search(r"\\[0-9]", text) or ways > MOST_STEPS:
        raise InvalidRequest(
            f"filter {text!r} could take too long to match: repeat no group, and use at most two "
            "of *, + and ?"
        )
    try:
        with warnings.catch_warnings():
            # About what Python may read otherwise one day.
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(text)
    except (re.error, OverflowError):
        return None


def matches_pattern(text: str, subject: str) -> bool:
    """Whether a name is the text, or has the pattern in it. Raises InvalidRequest."""
    if text == subject:
        return True
    pattern = compile_pattern(text)
    return pattern is not None and pattern.search(subject) is not None
