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
from collections.abc import Iterable, Iterator

import msgspec

from linkspan.dataplane.objects import Object
from linkspan.dataplane.rules import FirewallRule, Opaque, Table
from linkspan.errors import KernelRefused
from linkspan.kernel.namespaces import inside
from linkspan.kernel.netfilter.firewall import Firewall
from linkspan.kernel.netfilter.obstacles import (
    ForeignRules,
    Obstacle,
    find_obstacles,
    rule_texts,
)

__all__ = [
    "ForeignRules", "Obstacle", "find_obstacles", "foreign_obstacles", "read_firewall",
    "read_foreign_rules",
]  # fmt: skip

_TIMEOUT = 30.0
_LEGACY = (("ip", "ip_tables_names", "iptables"), ("ip6", "ip6_tables_names", "ip6tables"))


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
    """Every nf_tables table of a namespace with its elements; `name` is the namespace's name.

    Rules are Opaque, with the text that `nft` prints of them, or "" without that program.
    Raises KernelRefused.
    """
    with Firewall(namespace, name, own=False) as firewall:
        for family, table in firewall.tables():
            shell, elements = firewall.read(family, table)
            if shell is None:
                continue
            texts = _texts_of(family, table, namespace) if _has_rules(shell) else {}
            chains = tuple(
                msgspec.structs.replace(
                    chain,
                    rules=tuple(
                        _with_text(rule, texts.get((family, table, chain.name, rule.handle or 0)))
                        for rule in chain.rules
                    ),
                )
                for chain in shell.chains
            )
            yield msgspec.structs.replace(shell, chains=chains)
            yield from elements


def _has_rules(table: Table) -> bool:
    return any(chain.rules for chain in table.chains)


def _texts_of(
    family: str, table: str, namespace: int | None
) -> dict[tuple[str, str, str, int], str]:
    command = ["nft", "-a", "list", "table", family, table]
    text = _run(command) if namespace is None else inside(namespace, lambda: _run(command))
    return rule_texts(text)


def _with_text(rule: FirewallRule, text: str | None) -> FirewallRule:
    return msgspec.structs.replace(rule, statements=(Opaque(text or ""),), text=text)


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
