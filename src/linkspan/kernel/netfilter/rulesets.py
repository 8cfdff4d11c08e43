"""The firewalls of namespaces in the rule language, whoever wrote them.

Programs print them (`printed`), readers of nft's JSON and of iptables' saved text take them
in. Tables of iptables-nft are read as iptables prints them: nft knows many of its matches by
name only. Where nothing could be printed, netlink gives chains and sets without the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from linkspan.dataplane.objects import Object
from linkspan.dataplane.rules import FirewallRule, Opaque, Table
from linkspan.errors import LinkspanError
from linkspan.kernel import namespaces
from linkspan.kernel.netfilter import iptables, nftjson
from linkspan.kernel.netfilter.firewall import Firewall
from linkspan.kernel.netfilter.ipsetlists import list_sets
from linkspan.kernel.netfilter.iptables import IpSet
from linkspan.kernel.netfilter.legacy import PROGRAMS
from linkspan.kernel.netfilter.obstacles import IPTABLES_TABLES, chain_devices, rule_texts
from linkspan.kernel.netfilter.printed import Job, Printed, print_rulesets

_SAVE_NFT = {"ip": "iptables-nft-save", "ip6": "ip6tables-nft-save"}


class Wanted(NamedTuple):
    """A namespace with tables: those of nf_tables by family and name, iptables' legacy ones by
    family. `path` None is the calling thread's own namespace.
    """

    name: str
    path: str | None
    tables: tuple[tuple[str, str], ...]
    legacy: Mapping[str, tuple[str, ...]]


class Ruleset(NamedTuple):
    """Tables and elements of a namespace, and what could not be read, and why."""

    objects: list[Object]
    failed: tuple[str, ...]


def read_rulesets(wanted: Sequence[Wanted], descriptors: Iterable[int] = ()) -> dict[str, Ruleset]:
    """The firewalls of namespaces by name: nf_tables' tables in the order of their creation,
    then iptables' legacy ones. `descriptors` are open files that paths refer to.

    Rules that no program printed are Opaque with an empty text.
    """
    printed = print_rulesets([_job(one) for one in wanted], descriptors)
    return {one.name: _read(one, text) for one, text in zip(wanted, printed, strict=True)}


def _job(wanted: Wanted) -> Job:
    saved = {
        family
        for family, table in wanted.tables
        if family in _SAVE_NFT and table in IPTABLES_TABLES
    }
    return Job(
        name=wanted.name, path=wanted.path, nft=bool(wanted.tables),
        saved={family: [[_SAVE_NFT[family]]] for family in sorted(saved)},
        legacy={
            family: [[PROGRAMS[family], "-t", name] for name in names]
            for family, names in wanted.legacy.items()
        },
    )  # fmt: skip


def _read(wanted: Wanted, printed: Printed) -> Ruleset:
    if printed.gone:
        return Ruleset([], ())
    failed = list(printed.failed)
    objects: list[Object] = []
    sets = _read_sets(wanted, printed, failed)
    if wanted.tables:
        try:
            objects += _read_nft(wanted.name, printed, sets)
        except (ValueError, KeyError, TypeError):
            if not failed:
                failed.append("nft printed something that is not understood")
            objects += _read_shells(wanted)
    for family, text in printed.legacy.items():
        saved = text.decode(errors="replace")
        tables = iptables.read_saved(saved, family, "iptables-legacy", wanted.name, sets)
        objects += (*tables, *iptables.asked_elements(tables, sets))
    return Ruleset(objects, tuple(failed))


def _read_sets(wanted: Wanted, printed: Printed, failed: list[str]) -> dict[str, IpSet]:
    """The sets of ipset, if any rule asks one."""
    texts = (*printed.saved.values(), *printed.legacy.values())
    if not any(b" -m set " in text for text in texts):
        return {}
    try:
        if wanted.path is None:
            return list_sets()
        with namespaces.opened(wanted.path) as descriptor:
            return list_sets(descriptor)
    except LinkspanError as error:
        failed.append(str(error))
        return {}


def _read_nft(name: str, printed: Printed, sets: Mapping[str, IpSet]) -> list[Object]:
    """The tables as nft and iptables-nft print them. Raises ValueError when nft did not."""
    rows: list[dict[str, Any]] = msgspec.json.decode(printed.json)["nftables"]
    lines = printed.lines.decode(errors="replace")
    # Some versions of nft leave devices out of their JSON.
    found = nftjson.read_ruleset(rows, rule_texts(lines), name, chain_devices(lines))
    saved = {
        (table.family, table.name): table
        for family, text in printed.saved.items()
        for table in iptables.read_saved(
            text.decode(errors="replace"), family, "iptables-nft", name, sets
        )
    }
    tables = [_choose_reading(table, saved) for table in found.tables]
    asking = [table for table in tables if table.origin == "iptables-nft"]
    return [*tables, *found.elements, *iptables.asked_elements(asking, sets)]


def _choose_reading(table: Table, saved: Mapping[tuple[str, str], Table]) -> Table:
    """What iptables says of its own table, if that is all there is in it."""
    said = saved.get((table.family, table.name))
    return (None if said is None else iptables.apply_hooks(said, table)) or table


def _read_shells(wanted: Wanted) -> Iterator[Object]:
    """The tables as netlink gives them: without what their rules say."""
    try:
        if wanted.path is None:
            yield from _read_shells_of(Firewall(None, wanted.name, own=False), wanted)
            return
        with namespaces.opened(wanted.path) as descriptor:
            yield from _read_shells_of(Firewall(descriptor, wanted.name, own=False), wanted)
    except LinkspanError:
        return


def _read_shells_of(firewall: Firewall, wanted: Wanted) -> Iterator[Object]:
    with firewall:
        for family, table in wanted.tables:
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
