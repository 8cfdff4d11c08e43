"""Patterns, moments and lengths of time as Docker's clients write and read them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.api.docker.patterns import LONGEST_SUBJECT, matches_pattern
from linkspan.api.docker.times import read_moment, read_seconds, show_length, show_moment
from linkspan.errors import InvalidRequest


@pytest.mark.parametrize(
    ("pattern", "subject", "found"),
    [
        ("web", "my-web-1", True),
        ("^web", "my-web-1", False),
        ("^/?(web|db)-[0-9]+$", "db-12", True),
        ("a.c", "abc", True),
        ("(", "(", True),
        ("(", "x", False),
        ("[", "web", False),
        ("", "web", True),
        (r"\.", "a.b", True),
        ("[*+?]", "a+b", True),
    ],
)
def test_a_pattern_is_found_anywhere(pattern: str, subject: str, found: bool):
    assert matches_pattern(pattern, subject) is found


@pytest.mark.parametrize(
    "pattern",
    ["(a*)*$", "(a+)+$", "(a|a)*$", "(a|aa){40}b", "a*a*a*a*b", "(?=a)", r"(a)\1", "a?" * 30,
     "(a|a)" * 30, "x" * 300],
)  # fmt: skip
def test_a_pattern_that_could_take_long_is_refused(pattern: str):
    with pytest.raises(InvalidRequest):
        matches_pattern(pattern, "a" * LONGEST_SUBJECT)


@given(st.text(alphabet="a|()*+?[]\\{}^$.,1", max_size=24))
def test_no_pattern_takes_long(pattern: str):
    began = time.thread_time()
    try:
        matches_pattern(pattern, "a" * LONGEST_SUBJECT)
    except InvalidRequest:
        pass
    assert time.thread_time() - began < 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 400.0),
        ("1m30s", 910.0),
        ("1.5s", 998.5),
        ("250ms", 999.75),
        ("0", 0.0),
        ("600", 600.0),
        ("600.25", 600.25),
        ("1970-01-01T00:10:00Z", 600.0),
        ("1970-01-01T01:10:00+01:00", 600.0),
        ("1970-01-01T00:10:00.250000000Z", 600.25),
        ("1970-01-01T00:10", 600.0),
        ("1970-01-02", 86400.0),
    ],
)
def test_a_moment_is_read(text: str, seconds: float):
    assert read_moment(text, 1000.0) == seconds


@pytest.mark.parametrize("text", ["", " ", "m", "10", "10m ago", "-5", "9" * 13, "1970-13-01"])
def test_what_is_no_moment_is_refused(text: str):
    if text == "10":
        assert read_moment(text, 0.0) == 10.0
        return
    with pytest.raises(InvalidRequest):
        read_moment(text, 1000.0)


def test_seconds_of_events_are_numbers():
    assert read_seconds("since", "") is None
    assert read_seconds("since", "12.000000005") == pytest.approx(12.0)
    for text in ("10m", "nan", "1e3", "-1", "\u0661"):
        with pytest.raises(InvalidRequest, match="since"):
            read_seconds("since", text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (1.5, "1970-01-01T00:00:01.5Z"),
        (1.000001, "1970-01-01T00:00:01.000001Z"),
        (59.9999999, "1970-01-01T00:01:00Z"),
        (None, "0001-01-01T00:00:00Z"),
    ],
)
def test_a_moment_is_shown_with_as_many_digits_as_it_has(seconds: Any, text: str):
    assert show_moment(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (150, "2 minutes"),
        (46 * 60, "46 minutes"),
        (50 * 60, "About an hour"),
        (3 * 3600, "3 hours"),
        (47 * 3600, "47 hours"),
        (3 * 86400, "3 days"),
        (20 * 86400, "2 weeks"),
        (100 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_a_length_of_time_in_words(seconds: float, words: str):
    assert show_length(seconds) == words
