"""Names: the rule, and made-up ones that keep it."""

from __future__ import annotations

import random

import pytest

from linkspan.engine.names import check_name, generate_name
from linkspan.errors import InvalidRequest


@pytest.mark.parametrize("name", ["web", "ab", "0-", "Web_1.front-end", "a" * 128, "0" * 63])
def test_a_good_name_is_given_back(name: str):
    assert check_name("network", name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "2 to 128 letters"),
        ("a", "2 to 128 letters"),
        ("-web", "letter or digit first"),
        (".web", "letter or digit first"),
        ("_web", "letter or digit first"),
        ("web/front", "letters, digits"),
        ("web front", "letters, digits"),
        ("web\n", "letters, digits"),
        ("w\u00e9b", "letters, digits"),
        ("a" * 129, "2 to 128 letters"),
        ("0123456789abcdef" * 4, "64 hex digits are an id"),
    ],
)
def test_a_bad_name_is_explained(name: str, said: str):
    with pytest.raises(InvalidRequest, match=f"is no name for a sandbox: .*{said}") as caught:
        check_name("sandbox", name)
    assert len(caught.value.message) < 200


def test_a_network_may_have_a_name_of_one_character():
    assert check_name("network", "x") == "x"
    with pytest.raises(InvalidRequest, match="1 to 128 letters"):
        check_name("network", "")


def test_made_up_names_keep_the_rule_and_are_never_taken():
    chance, taken = random.Random(1), set[str]()
    for _ in range(30_000):
        name = check_name("sandbox", generate_name(taken, chance))
        assert name not in taken
        taken.add(name)
    assert max(map(len, taken)) < 40


def test_two_daemons_make_up_different_names():
    assert {generate_name(()) for _ in range(50)} != {generate_name(()) for _ in range(50)}
