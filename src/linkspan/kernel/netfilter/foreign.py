"""Rulesets of one namespace, read as other programs print them; `obstacles` searches them.

`nft -j list ruleset` is run in a child process: it knows every expression there is, and a
crash of it is not ours. iptables' legacy tables are outside nf_tables.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator

from linkspan.dataplane.objects import Object
from linkspan.errors import KernelRefused
from linkspan.kernel.namespaces import inside
from linkspan.kernel.netfilter import observed
from linkspan.kernel.netfilter.legacy import PROGRAMS, list_legacy_tables
from linkspan.kernel.netfilter.obstacles import ForeignRules, Obstacle, find_obstacles
from linkspan.kernel.netfilter.rulesets import Wanted, read_rulesets
from linkspan.kernel.netlink.socket import NETFILTER, NetlinkSocket

__all__ = [
    "ForeignRules", "Obstacle", "find_obstacles", "foreign_obstacles", "read_firewall",
    "read_foreign_rules",
]  # fmt: skip

_TIMEOUT = 30.0


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

    As `rulesets.read_rulesets` does it. Netlink is asked first whether there are any. Raises
    KernelRefused.
    """
    with NetlinkSocket(NETFILTER, namespace) as sock:
        tables = observed.list_tables(sock)
    legacy = list_legacy_tables() if namespace is None else inside(namespace, list_legacy_tables)
    if not tables and not legacy:
        return
    if namespace is None:
        wanted = Wanted(name, None, tables, legacy)
        yield from read_rulesets((wanted,))[name].objects
        return
    wanted = Wanted(name, f"/proc/self/fd/{namespace}", tables, legacy)
    yield from read_rulesets((wanted,), (namespace,))[name].objects


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
    for family, names in list_legacy_tables().items():
        texts = [_run([PROGRAMS[family], "-t", name]) for name in names]
        if any(texts):
            found[family] = "".join(texts)
    return found
