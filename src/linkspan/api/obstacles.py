"""Rules of other programs' firewalls that stop our packets: which ones, and how to let us pass.

All tables of a kernel apply, and a packet that one of them drops is dropped. Letting ours pass
another's table opens nothing: our own table still decides. Nothing is edited here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from linkspan.drivers.firewall import TABLES
from linkspan.kernel.netfilter.foreign import (
    ForeignRules,
    Obstacle,
    find_obstacles,
    read_foreign_rules,
)

OUR_BRIDGES = ("ls-*", "linkspan0")
"""Names of the bridges of networks, unless their option `bridge` names another."""

DOCKERS_CHAIN = "DOCKER-USER"
"""The chain that Docker leaves to the administrator, and passes before its own."""

_POSITIVE = re.compile(
    r"""(?:(?<![!\w])[io]ifname\s+(?!!=)(?P<nft>"[^"]+"|\{[^}]*\})"""
    r"""|(?<!!)\s-[io]\s+(?P<iptables>\S+))"""
)
"""Interfaces that a rule asks for, as nft and iptables print them."""

_HARMLESS = re.compile(r"\bct state (invalid|\{? ?invalid ?\}?)|--ctstate INVALID\b|\bfib daddr\b")
"""Conditions that no packet of a healthy connection meets."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A rule or policy that stops our packets: surely, or only those that meet its conditions."""

    obstacle: Obstacle
    sure: bool
    fix: tuple[str, ...]
    """Commands that let our packets pass."""


def find_stops(interfaces: Sequence[str] = ()) -> tuple[Stop, ...]:
    """What stops forwarded packets of our networks, in the calling thread's namespace.

    `interfaces` are bridges with other names than ours usually have. Raises LinkspanError when
    the rules cannot be read.
    """
    ours = [(table.family, table.name) for table in TABLES]
    return choose_stops(read_foreign_rules(), ours, (*OUR_BRIDGES, *interfaces))


def choose_stops(
    rules: ForeignRules, ours: Iterable[tuple[str, str]], interfaces: Sequence[str]
) -> tuple[Stop, ...]:
    """Those of all obstacles that concern us and are not answered by a rule that lets us pass."""
    stops = []
    for obstacle in find_obstacles(rules, ours):
        if obstacle.hook != "forward" or not concerns_us(obstacle, interfaces):
            continue
        if lets_us_pass(rules, obstacle, interfaces):
            continue
        fix = suggest_fix(rules, obstacle, interfaces)
        stops.append(Stop(obstacle=obstacle, sure=not obstacle.conditional, fix=fix))
    return tuple(stops)


def concerns_us(obstacle: Obstacle, interfaces: Sequence[str]) -> bool:
    """Whether it can meet packets of ours: not if it asks for other interfaces."""
    if not obstacle.conditional:
        return True
    if _HARMLESS.search(obstacle.text):
        return False
    asked = [match["nft"] or match["iptables"] for match in _POSITIVE.finditer(obstacle.text)]
    names = [re.findall(r"[\w.*+-]+", text) for text in asked]
    return all(any(is_ours(name, interfaces) for name in alternatives) for alternatives in names)


def is_ours(name: str, interfaces: Sequence[str]) -> bool:
    """Whether an interface or pattern of a rule can mean one of our bridges."""
    stem = name.rstrip("*+")
    pattern = stem != name
    for interface in interfaces:
        own = interface.rstrip("*")
        if name == interface or name.startswith(own) or (pattern and own.startswith(stem)):
            return True
    return False


def lets_us_pass(rules: ForeignRules, obstacle: Obstacle, interfaces: Sequence[str]) -> bool:
    """Whether rules of the same table accept packets from and to every bridge of ours."""
    if obstacle.origin == "iptables-legacy":
        accepting = [
            line for line in rules.legacy.get(obstacle.family, "").splitlines() if "ACCEPT" in line
        ]
        forms = [f"-{way} {as_iptables(name)} -j ACCEPT" for way in "io" for name in interfaces]
    else:
        accepting = table_lines(rules.nft_text, obstacle.family, obstacle.table)
        forms = [f'{way}ifname "{name}"' for way in "io" for name in interfaces]
    return all(any(form in line for line in accepting) for form in forms)


def table_lines(text: str, family: str, table: str) -> list[str]:
    """The accepting rules of one table in nft's listing."""
    _, _, rest = text.partition(f"table {family} {table} {{")
    return [line for line in rest.partition("\n}")[0].splitlines() if "accept" in line]


def suggest_fix(
    rules: ForeignRules, obstacle: Obstacle, interfaces: Sequence[str]
) -> tuple[str, ...]:
    """Commands, in the language of the program that loaded the rule."""
    if obstacle.origin.startswith("iptables"):
        program = "iptables" if obstacle.family == "ip" else "ip6tables"
        chain = DOCKERS_CHAIN if has_dockers_chain(rules, obstacle.family) else "FORWARD"
        if obstacle.origin == "iptables-legacy":
            program += "-legacy"
        return tuple(
            f"{program} -I {chain} -{way} {as_iptables(name)} -j ACCEPT"
            for name in interfaces
            for way in "io"
        )
    place = f"{obstacle.family} {obstacle.table} {base_chain_of(rules, obstacle)}"
    return tuple(
        f"nft insert rule {place} {way}ifname '\"{name}\"' accept"
        for name in interfaces
        for way in "io"
    )


def base_chain_of(rules: ForeignRules, obstacle: Obstacle) -> str:
    """The chain at the hook from which the obstacle is reached."""
    for item in rules.nft:
        chain = item.get("chain")
        if (
            chain
            and chain.get("hook") == obstacle.hook
            and (chain["family"], chain["table"]) == (obstacle.family, obstacle.table)
        ):
            return str(chain["name"])
    return obstacle.chain


def has_dockers_chain(rules: ForeignRules, family: str) -> bool:
    """Whether Docker's chain for the administrator is there."""
    if any(
        chain.get("name") == DOCKERS_CHAIN and chain.get("family") == family
        for chain in (item.get("chain") or {} for item in rules.nft)
    ):
        return True
    return f":{DOCKERS_CHAIN} " in rules.legacy.get(family, "")


def as_iptables(name: str) -> str:
    """An interface pattern as iptables writes it."""
    return f"{name[:-1]}+" if name.endswith("*") else name


def describe_place(obstacle: Obstacle) -> str:
    """Where it is: program, table and chain."""
    return f"{obstacle.origin} table {obstacle.family} {obstacle.table}, chain {obstacle.chain}"
