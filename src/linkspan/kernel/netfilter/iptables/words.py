"""A rule's line taken apart: options with their values, in the groups that `-m` begins."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

_LONG = {"--protocol": "-p", "--source": "-s", "--destination": "-d", "--in-interface": "-i",
         "--out-interface": "-o", "--match": "-m", "--jump": "-j", "--goto": "-g"}  # fmt: skip
_FREE_TEXT = frozenset(("--comment", "--log-prefix", "--nflog-prefix", "--string", "--helper"))
_NEGATIVE = re.compile(r"-\d")


class Option(NamedTuple):
    """One option with its values; `invert` when an exclamation mark is before it."""

    name: str
    values: tuple[str, ...]
    invert: bool

    @property
    def value(self) -> str:
        """The only value, or all of them with blanks between; "" for none."""
        return " ".join(self.values)

    @property
    def text(self) -> str:
        """As it was written."""
        words = (*(("!",) if self.invert else ()), self.name, *map(shlex.quote, self.values))
        return " ".join(words)


class Group(NamedTuple):
    """What a match module says; the name "" is iptables itself."""

    module: str
    options: tuple[Option, ...]

    @property
    def text(self) -> str:
        """As it was written."""
        words = [f"-m {self.module}"] if self.module else []
        return " ".join([*words, *(option.text for option in self.options)])


class Line(NamedTuple):
    """A rule: its chain, matches in order, and the target with its options (None: no target)."""

    chain: str
    groups: tuple[Group, ...]
    target: str | None
    goto: bool
    options: tuple[Option, ...]


def split_line(text: str) -> Line:
    """A line "-A CHAIN ..." in parts. Raises ValueError for one that has no end."""
    if '"' in text or "'" in text or "\\" in text:
        # iptables escapes both kinds of quotes inside of double ones, a shell only its own.
        words = shlex.split(text.replace(r"\'", "'"))
    else:
        words = text.split()
    options = list(_options(words))
    chain = ""
    groups: list[Group] = []
    own: list[Option] = []
    module, held = "", own
    target: str | None = None
    goto = False
    targets: list[Option] = []
    for option in options:
        name = _LONG.get(option.name, option.name)
        option = option._replace(name=name)
        if name == "-A":
            chain = option.value
        elif name == "-m":
            if module:
                groups.append(Group(module, tuple(held)))
            module, held = option.value, []
        elif name in ("-j", "-g"):
            target, goto = option.value, name == "-g"
            if module:
                groups.append(Group(module, tuple(held)))
            module, held = "", targets
        else:
            held.append(option)
    if module:
        groups.append(Group(module, tuple(held)))
    return Line(chain, (Group("", tuple(own)), *groups), target, goto, tuple(targets))


def _options(words: list[str]) -> Iterator[Option]:
    name, invert, inverts_next = "", False, False
    values: list[str] = []
    for word in words:
        if name in _FREE_TEXT and not values:
            values.append(word)
        elif word == "!":
            inverts_next = True
        elif word.startswith("-") and not _NEGATIVE.match(word) and len(word) > 1:
            if name:
                yield Option(name, tuple(values), invert)
            name, values, invert, inverts_next = word, [], inverts_next, False
        else:
            values.append(word)
    if name:
        yield Option(name, tuple(values), invert)
