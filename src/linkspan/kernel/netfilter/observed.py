"""What nf_tables holds: tables, chains, sets and elements, read by netlink dumps."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from linkspan.dataplane.objects import HOST, Element
from linkspan.dataplane.rules import Chain, FirewallRule, SetDefinition, Table
from linkspan.errors import KernelRefused
from linkspan.kernel.netfilter import batch
from linkspan.kernel.netfilter.batch import FAMILIES, FAMILY_NAMES, pack_request
from linkspan.kernel.netfilter.elements import SetCodec
from linkspan.kernel.netfilter.tables import HOOKS, TABLE_FLAGS
from linkspan.kernel.netfilter.values import VERDICT_TYPE, type_names
from linkspan.kernel.netlink.socket import NetlinkSocket, Refusal
from linkspan.kernel.netlink.wire import attribute_text, parse_attributes, read_text

_NO_ENTRY = 2
_HEADER = 4
"""Bytes of struct nfgenmsg in front of the attributes."""

Attributes = dict[int, bytes]


class TableState(NamedTuple):
    """A table's own attributes. `owner` is the port id of the socket that owns it, 0 for none."""

    flags: tuple[str, ...]
    owner: int
    handle: int


class RuleState(NamedTuple):
    """A rule as the kernel holds it; `expressions` the payload of NFTA_RULE_EXPRESSIONS."""

    chain: str
    handle: int
    expressions: bytes
    comment: str | None


class ChainState(NamedTuple):
    """A chain without its rules, and its handle."""

    chain: Chain
    handle: int


def read_table(sock: NetlinkSocket, family: str, name: str) -> TableState | None:
    """The table's attributes, None when there is no such table. Raises KernelRefused."""
    answer = sock.query(pack_request(batch.GET_TABLE, FAMILIES[family], attribute_text(1, name)))
    if isinstance(answer, Refusal):
        if answer.errno == _NO_ENTRY:
            return None
        raise answer.as_error(f"reading table {family} {name}")
    return _read_state(parse_attributes(answer[1], _HEADER))


def list_tables(sock: NetlinkSocket) -> tuple[tuple[str, str], ...]:
    """Family and name of every table, whoever made it. Raises KernelRefused."""
    rows = sock.dump(pack_request(batch.GET_TABLE, 0), "reading tables")
    return tuple(
        (FAMILY_NAMES[payload[0]], read_text(parse_attributes(payload, _HEADER)[1]))
        for _, payload in rows
        if payload[0] in FAMILY_NAMES
    )


def _read_state(found: Attributes) -> TableState:
    bits = _big(found.get(2, b""))
    flags = tuple(flag for flag, bit in TABLE_FLAGS.items() if bits & bit)
    return TableState(flags, _big(found.get(7, b"")), _big(found.get(4, b"")))


def read_chains(sock: NetlinkSocket, family: str, table: str) -> tuple[ChainState, ...]:
    """The table's chains, without rules, in the order they were made. Raises KernelRefused."""
    rows = sock.dump(
        pack_request(batch.GET_CHAIN, FAMILIES[family], attribute_text(1, table)),
        f"reading chains of {family} {table}",
    )
    found = (parse_attributes(payload, _HEADER) for _, payload in rows)
    return tuple(
        sorted(
            (
                ChainState(read_chain(attributes, family), _big(attributes[2]))
                for attributes in found
                if read_text(attributes[1]) == table
            ),
            key=lambda state: state.handle,
        )
    )


def read_chain(attributes: Attributes, family: str) -> Chain:
    """A chain from its attributes."""
    name = read_text(attributes[3])
    if 4 not in attributes:
        return Chain(name=name)
    hook = parse_attributes(attributes[4])
    number = _big(hook.get(1, b""))
    names = {value: text for text, value in HOOKS.get(family, {}).items()}
    return Chain(
        name=name,
        hook=names.get(number, str(number)),
        type=read_text(attributes.get(7, b"")),
        priority=struct.unpack(">i", hook[2])[0] if 2 in hook else 0,
        policy="drop" if _big(attributes.get(5, b"\1")) == 0 else "accept",
        device=read_text(hook[3]) if 3 in hook else None,
    )


def read_rules(sock: NetlinkSocket, family: str, table: str) -> tuple[RuleState, ...]:
    """The table's rules, chain by chain, in the order they run. Raises KernelRefused."""
    rows = sock.dump(
        pack_request(batch.GET_RULE, FAMILIES[family], attribute_text(1, table)),
        f"reading rules of {family} {table}",
    )
    rules = []
    for _, payload in rows:
        found = parse_attributes(payload, _HEADER)
        comment = _user_data(found.get(7, b"")).get(0)
        rules.append(
            RuleState(
                read_text(found[2]), _big(found[3]), found.get(4, b""),
                None if comment is None else read_text(comment),
            )
        )  # fmt: skip
    return tuple(rules)


def read_sets(sock: NetlinkSocket, family: str, table: str) -> tuple[SetDefinition, ...]:
    """The table's named sets whose types linkspan knows, in the order they were made."""
    return tuple(d for d in _all_sets(sock, family, table) if not d.name.startswith("__"))


def read_anonymous_sets(sock: NetlinkSocket, family: str, table: str) -> dict[str, SetDefinition]:
    """The sets that belong to rules, by the names that the kernel gave them."""
    return {d.name: d for d in _all_sets(sock, family, table) if d.name.startswith("__")}


def _all_sets(sock: NetlinkSocket, family: str, table: str) -> list[SetDefinition]:
    rows = sock.dump(
        pack_request(batch.GET_SET, FAMILIES[family], attribute_text(1, table)),
        f"reading sets of {family} {table}",
    )
    found = [parse_attributes(payload, _HEADER) for _, payload in rows]
    found.sort(key=lambda attributes: _big(attributes.get(16, b"")))
    return [d for d in map(_read_definition, found) if d is not None]


def _read_definition(found: Attributes) -> SetDefinition | None:
    key = type_names(_big(found[4]))
    flags = _big(found.get(3, b""))
    data: tuple[str, ...] | None = None
    if flags & 0x8:
        number = _big(found.get(6, b""))
        data = ("verdict",) if number == VERDICT_TYPE else type_names(number)
    if not key or (flags & 0x8 and not data) or flags & 0x40:
        return None
    description = parse_attributes(found.get(9, b""))
    comment = _user_data(found.get(13, b"")).get(7)
    return SetDefinition(
        name=read_text(found[2]),
        key=key,
        data=data,
        interval=bool(flags & 0x4),
        size=_big(description[1]) if 1 in description else None,
        timeout=_big(found[11]) // 1000 if 11 in found else None,
        dynamic=bool(flags & 0x20),
        comment=None if comment is None else read_text(comment),
    )


def read_elements(
    sock: NetlinkSocket, family: str, table: str, codec: SetCodec, namespace: str = HOST
) -> tuple[Element, ...]:
    """Every element of one set. Raises KernelRefused."""
    name = codec.definition.name
    body = attribute_text(1, table) + attribute_text(2, name)
    rows = sock.dump(
        pack_request(batch.GET_ELEMENT, FAMILIES[family], body),
        f"reading elements of {family} {table} {name}",
    )
    lists = (parse_attributes(payload, _HEADER).get(3, b"") for _, payload in rows)
    return tuple(codec.unpack(lists, namespace, family, table))


def read_generation(sock: NetlinkSocket) -> int:
    """The number of the ruleset's generation: it grows with every transaction of anyone."""
    answer = sock.query(pack_request(batch.GET_GENERATION, 0))
    if isinstance(answer, Refusal):
        raise answer.as_error("reading the firewall's generation")
    return _big(parse_attributes(answer[1], _HEADER)[1])


def read_fingerprint(sock: NetlinkSocket, family: str, name: str) -> str | None:
    """A short text that changes whenever the table's flags, chains or rules do; None: no table.

    Rules cannot be changed in place, so their handles in order stand for them; what can be
    changed in place (table flags, a chain's policy) is in it by value. Elements are not.
    """
    table = read_table(sock, family, name)
    if table is None:
        return None
    # A table that lost or found its owner is the same table.
    state: list[object] = [table.handle, "dormant" in table.flags]
    try:
        state += read_chains(sock, family, name)
        state += [(rule.chain, rule.handle) for rule in read_rules(sock, family, name)]
    except KernelRefused as error:
        if error.errno == _NO_ENTRY:
            return None
        raise
    return hashlib.blake2b(repr(state).encode(), digest_size=16).hexdigest()


def shell(
    namespace: str,
    family: str,
    name: str,
    table: TableState,
    chains: tuple[ChainState, ...],
    rules: tuple[RuleState, ...],
    sets: tuple[SetDefinition, ...],
) -> Table:
    """The table with its chains and sets; of its rules only handle and comment."""
    rows: dict[str, list[FirewallRule]] = {}
    for rule in rules:
        rows.setdefault(rule.chain, []).append(FirewallRule((), rule.comment, rule.handle))
    filled = []
    for state in chains:
        chain = state.chain
        filled.append(
            Chain(
                name=chain.name, rules=tuple(rows.get(chain.name, ())), hook=chain.hook,
                type=chain.type, priority=chain.priority, policy=chain.policy,
                device=chain.device,
            )
        )  # fmt: skip
    return Table(
        namespace=namespace, family=family, name=name, chains=tuple(filled), sets=sets,
        flags=table.flags,
    )  # fmt: skip


def _big(payload: bytes) -> int:
    return int.from_bytes(payload, "big")


def _user_data(payload: bytes) -> dict[int, bytes]:
    """Items of user data (libnftnl's udata.h): type and length of one byte each."""
    found: dict[int, bytes] = {}
    start = 0
    while start + 2 <= len(payload):
        type, size = payload[start], payload[start + 1]
        found[type] = payload[start + 2 : start + 2 + size]
        start += 2 + size
    return found
