"""Terms: what a fact says, with the identities in it marked as such."""

from __future__ import annotations

from typing import Any, NamedTuple

from linkspan.dataplane.rules import Counter, FirewallRule, Log, Statement

Fact = tuple[Any, ...]


class Mine(NamedTuple):
    """An identity: the namespace that has it, and what it is there."""

    owner: str
    role: Any


class PublishedPort(NamedTuple):
    """A port of the host that may belong to one namespace."""

    number: int


def find_mines(term: Any) -> list[Mine | PublishedPort]:
    """The identities and ports of the host in a term."""
    found: list[Mine | PublishedPort] = []
    if type(term) is tuple:
        _collect(term, found)
    elif type(term) is Mine or type(term) is PublishedPort:
        found.append(term)
    return found


def _collect(terms: tuple[Any, ...], found: list[Mine | PublishedPort]) -> None:
    for part in terms:
        kind = type(part)
        if kind is tuple:
            _collect(part, found)
        elif kind is Mine or kind is PublishedPort:
            found.append(part)


def owners_of(term: Any) -> set[str]:
    """The namespaces that a term names."""
    return {one.owner for one in find_mines(term) if type(one) is Mine}


def told(rule: FirewallRule) -> list[Statement]:
    """The statements that matter: counting and logging do not."""
    return [one for one in rule.statements if not isinstance(one, (Counter, Log))]
