"""Rulesets of other programs, read as they print them; `obstacles` searches them.

`nft -j list ruleset` is run in a child process: it knows every expression there is, and a
crash of it is not ours. iptables' legacy tables are outside nf_tables. Reading a legacy
table creates it, so /proc/thread-self/net/ip_tables_names is asked first which exist.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec

from linkspan.dataplane.objects import Object
from linkspan.dataplane.rules import FirewallRule, Opaque, Table
from linkspan.errors import KernelRefused
from linkspan.kernel.namespaces import inside
from linkspan.kernel.netfilter import iptables, nftjson
from linkspan.kernel.netfilter.firewall import Firewall
from linkspan.kernel.netfilter.obstacles import (
    IPTABLES_TABLES,
    ForeignRules,
    Obstacle,
    chain_devices,
    find_obstacles,
    rule_texts,
)

__all__ = [
    "ForeignRules", "Obstacle", "find_obstacles", "foreign_obstacles", "read_firewall",
    "read_foreign_rules",
]  # fmt: skip

_TIMEOUT = 30.0
_SAVE_NFT = {"ip": "iptables-nft-save", "ip6": "ip6tables-nft-save"}
_LEGACY = (("ip", "ip_tables_names", "iptables"), ("ip6", "ip6_tables_names", "ip6tables"))

T = TypeVar("T")


def read_foreign_rules(namespace: int | None = None) -> ForeignRules:
    """Read all rulesets of a namespace (an open file descriptor, None for one's own).

    Raises KernelRefused when a program that reads them fails; without the program `nft`
    (or the legacy iptables) its part is empty.
    """
    if namespace is not None:
        return inside(namespace, read_foreign_rules)
    text = _run(["nft", "-j", "list", "ruleset"])
    rows = json.loads(text).get("nftables", []) if text else []
    return ForeignRules(
        nft=tuple(rows), nft_text=_run(["nft", "-a", "list", "ruleset"]), legacy=_read_legacy()
    )


def read_firewall(name: str, namespace: int | None = None) -> Iterator[Object]:
    """Every firewall table of a namespace with its elements; `name` is the namespace's name.

    nf_tables' in the order of their creation, then iptables' legacy ones. Netlink is asked
    first whether there are any. Tables of iptables-nft are read as iptables prints them: nft
    knows many of its matches by name only. Without the program `nft`, or when it fails, rules
    are Opaque with an empty text. Raises KernelRefused.
    """
    with Firewall(namespace, name, own=False) as firewall:
        tables = firewall.tables()
        if tables:
            yield from _read_nft(name, namespace, tables) or _read_shells(firewall, tables)
    for family, text in _inside(namespace, _read_legacy).items():
        yield from iptables.read_saved(text, family, "iptables-legacy", name)


def _read_nft(
    name: str, namespace: int | None, tables: Iterable[tuple[str, str]]
) -> list[Object] | None:
    """The tables as `nft` and iptables-nft print them; None when `nft` cannot."""
    saved = {family for family, table in tables if _may_be_iptables(family, table)}

    def run() -> tuple[str, str, dict[str, str]]:
        return (
            _run(["nft", "-s", "-j", "list", "ruleset"]),
            _run(["nft", "-s", "-a", "list", "ruleset"]),
            {family: _run_or_nothing([_SAVE_NFT[family]]) for family in saved},
        )

    try:
        text, lines, saves = _inside(namespace, run)
        rows = json.loads(text)["nftables"] if text else None
    except (KernelRefused, ValueError, KeyError):
        return None
    if rows is None:
        return None
    # Some versions of nft leave devices out of their JSON.
    found = nftjson.read_ruleset(rows, rule_texts(lines), name, chain_devices(lines))
    printed = {
        (table.family, table.name): table
        for family, saved_text in saves.items()
        for table in iptables.read_saved(saved_text, family, "iptables-nft", name)
    }
    return [*(_choose_reading(table, printed) for table in found.tables), *found.elements]


def _choose_reading(table: Table, printed: Mapping[tuple[str, str], Table]) -> Table:
    """What iptables says of its own table, if that is all there is in it."""
    saved = printed.get((table.family, table.name))
    return (None if saved is None else iptables.apply_hooks(saved, table)) or table


def _may_be_iptables(family: str, table: str) -> bool:
    return family in _SAVE_NFT and table in IPTABLES_TABLES


def _read_shells(firewall: Firewall, tables: Iterable[tuple[str, str]]) -> Iterator[Object]:
    """The tables as netlink gives them: without what their rules say."""
    for family, table in tables:
        shell, elements = firewall.read(family, table)
        if shell is None:
            continue
        chains = tuple(
            msgspec.structs.replace(chain, rules=tuple(map(_unread, chain.rules)))
            for chain in shell.chains
        )
        yield msgspec.structs.replace(shell, chains=chains)
        yield from elements


def _unread(rule: FirewallRule) -> FirewallRule:
    return msgspec.structs.replace(rule, statements=(Opaque(""),), text="")


def _inside(namespace: int | None, function: Callable[[], T]) -> T:
    return function() if namespace is None else inside(namespace, function)


def foreign_obstacles(
    namespace: int | None = None, ours: Iterable[tuple[str, str]] = ()
) -> tuple[Obstacle, ...]:
    """What other programs' rules may stop; `ours` are (family, name) of tables to leave out."""
    return find_obstacles(read_foreign_rules(namespace), ours)


def _run(command: list[str]) -> str:
    path = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin")
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *command[1:]], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise KernelRefused(f"{' '.join(command)}: no answer in {_TIMEOUT:.0f} s", 110) from None
    if done.returncode:
        raise KernelRefused(f"running {' '.join(command)}", 5, done.stderr.strip()[:500])
    return done.stdout


def _run_or_nothing(command: list[str]) -> str:
    try:
        return _run(command)
    except KernelRefused:
        return ""


def _read_legacy() -> dict[str, str]:
    found: dict[str, str] = {}
    for family, names_file, program in _LEGACY:
        names: list[str] = []
        with contextlib.suppress(OSError), open(f"/proc/thread-self/net/{names_file}") as file:
            names = file.read().split()
        texts = [_run([f"{program}-legacy-save", "-t", name]) for name in sorted(names)]
        if any(texts):
            found[family] = "".join(texts)
    return found
