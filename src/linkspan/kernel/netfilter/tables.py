"""Messages that make and remove whole tables: the table, its sets, chains and rules.

Comments and byte orders go into user data, in the layout that the `nft` program reads
(libnftnl's udata.h), so that it lists our tables as if it had loaded them.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from linkspan.dataplane.objects import Element
from linkspan.dataplane.rules import Chain, SetDefinition, Table
from linkspan.errors import InvalidRequest
from linkspan.kernel.netfilter import batch
from linkspan.kernel.netfilter.batch import FAMILIES, Message
from linkspan.kernel.netfilter.elements import SetCodec, describe_element
from linkspan.kernel.netfilter.encode import number
from linkspan.kernel.netfilter.expressions import compile_rule
from linkspan.kernel.netfilter.matches import AnonymousSet
from linkspan.kernel.netfilter.values import VERDICT_TYPE, DataType, type_number
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.wire import attribute, attribute_text, nested

TABLE_FLAGS = {"dormant": 1, "owner": 2, "persist": 4}

_ANONYMOUS, _CONSTANT, _INTERVAL, _MAP, _TIMEOUT, _DYNAMIC, _CONCAT = (
    0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x80,
)  # fmt: skip
_IP_HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4, "ingress": 5}
HOOKS: dict[str, dict[str, int]] = {
    "inet": _IP_HOOKS, "ip": _IP_HOOKS, "ip6": _IP_HOOKS, "bridge": _IP_HOOKS,
    "arp": {"input": 0, "output": 1, "forward": 2},
    "netdev": {"ingress": 0, "egress": 1},
}  # fmt: skip
_POLICIES = {"drop": 0, "accept": 1}
_LIST_LIMIT = 60_000
"""Bytes of elements in one message: a nest's length has 16 bits."""
_ORDER_HOST, _ORDER_NETWORK = 1, 2
_DATA_KEY_ORDER, _DATA_DATA_ORDER, _DATA_COMMENT = 0, 1, 7


def _user_data(type: int, payload: bytes) -> bytes:
    """One item of user data; a length has eight bits."""
    return bytes((type, len(payload))) + payload


def _comment(text: str) -> bytes:
    packed = text.encode()
    if len(packed) > 128:  # NFTNL_UDATA_COMMENT_MAXLEN
        raise InvalidRequest(f"the comment {text!r} is longer than 128 bytes")
    return packed + b"\0"


def create_table(table: Table, flags: int, first_set_id: int = 1) -> list[Message]:
    """Messages that make a table that is not there; flags as in TABLE_FLAGS.

    Anonymous sets are numbered from `first_set_id`. Raises Unsupported and InvalidRequest
    as `compile_rule` does.
    """
    family = _family(table)
    messages = [_declare(table, flags)]
    name = attribute_text(1, table.name)
    for place, definition in enumerate(table.sets):
        number_ = first_set_id + place
        messages.append(_create_set(table, definition, number_))
    number_ = first_set_id + len(table.sets)
    messages += [_create_chain(table, chain) for chain in table.chains]
    definitions = {definition.name: definition for definition in table.sets}
    for chain in table.chains:
        for place, rule in enumerate(chain.rules, 1):
            what = f"rule {place} of chain {table.family} {table.name} {chain.name}"
            compiled = compile_rule(rule, table.family, definitions, number_)
            number_ += len(compiled.sets)
            for anonymous in compiled.sets:
                messages += _create_anonymous(table, anonymous, what)
            body = name + attribute_text(2, chain.name) + nested(4, compiled.expressions)
            if rule.comment is not None:
                body += attribute(7, _user_data(0, _comment(rule.comment)))
            messages.append(
                Message(batch.NEW_RULE, wire.CREATE | wire.APPEND, family, body, _say(what))
            )
    return messages


def delete_table(table: Table, missing_ok: bool = True) -> list[Message]:
    """Messages that remove a table with all that is in it.

    With `missing_ok` the table is declared first, which does nothing when it exists.
    """
    body = attribute_text(1, table.name)
    what = f"removing table {table.family} {table.name}"
    delete = Message(batch.DELETE_TABLE, 0, _family(table), body, _say(what))
    if not missing_ok:
        return [delete]
    return [Message(batch.NEW_TABLE, wire.CREATE, _family(table), body, _say(what)), delete]


def claim_table(family: str, name: str, flags: int) -> Message:
    """The message by which this socket becomes the owner of an orphaned table."""
    body = attribute_text(1, name) + number(2, flags)
    what = f"claiming table {family} {name}"
    return Message(batch.NEW_TABLE, 0, FAMILIES[family], body, _say(what))


def _say(what: str) -> Callable[[int], str]:
    """How a message describes itself when all of it is about one thing."""
    return lambda _: what


def _family(table: Table) -> int:
    if table.family not in FAMILIES:
        raise InvalidRequest(f"{table.family!r} is not a family of nf_tables")
    return FAMILIES[table.family]


def _declare(table: Table, flags: int) -> Message:
    what = f"table {table.family} {table.name}"
    body = attribute_text(1, table.name) + number(2, flags)
    return Message(batch.NEW_TABLE, wire.CREATE, _family(table), body, _say(what))


def _create_chain(table: Table, chain: Chain) -> Message:
    what = f"chain {table.family} {table.name} {chain.name}"
    body = attribute_text(1, table.name) + attribute_text(3, chain.name)
    if chain.hook is not None:
        hooks = HOOKS[table.family]
        if chain.hook not in hooks or chain.policy not in _POLICIES:
            raise InvalidRequest(f"{what}: hook {chain.hook}, policy {chain.policy} do not exist")
        hook = number(1, hooks[chain.hook]) + attribute(2, struct.pack(">i", chain.priority))
        if chain.device is not None:
            hook += attribute_text(3, chain.device)
        body += attribute_text(7, chain.type) + number(5, _POLICIES[chain.policy]) + nested(4, hook)
    return Message(batch.NEW_CHAIN, wire.CREATE, _family(table), body, _say(what))


def _create_set(table: Table, definition: SetDefinition, number_: int) -> Message:
    what = f"set {table.family} {table.name} {definition.name}"
    body = attribute_text(1, table.name) + describe_set(definition, number_)
    return Message(batch.NEW_SET, wire.CREATE, _family(table), body, _say(what))


def describe_set(definition: SetDefinition, number_: int, flags: int = 0, size: int = 0) -> bytes:
    """The attributes of a set's definition; `flags` and `size` for anonymous sets."""
    codec = SetCodec(definition)
    flags |= _INTERVAL if definition.interval else 0
    flags |= _CONCAT if definition.interval and codec.concatenated else 0
    flags |= _MAP if codec.is_map else 0
    flags |= _TIMEOUT if definition.timeout is not None else 0
    flags |= _DYNAMIC if definition.dynamic else 0
    parts = [
        attribute_text(2, definition.name), number(3, flags),
        number(4, type_number(definition.key)), number(5, codec.key_size),
        number(10, number_),
    ]  # fmt: skip
    if definition.data is not None:
        kind = VERDICT_TYPE if codec.verdicts else type_number(definition.data)
        parts += [number(6, kind), number(7, codec.data_size)]
    description = b""
    if definition.size or size:
        description += number(1, definition.size or size)
    if flags & _CONCAT:
        # Rounded up to whole registers the field lengths must give the key's length.
        fields = (nested(1, number(1, kind.size)) for kind in codec.kinds)
        description += nested(2, *fields)
    if description:
        parts.append(nested(9, description))
    if definition.timeout:
        parts.append(attribute(11, struct.pack(">Q", definition.timeout * 1000)))
    parts.append(attribute(13, _set_user_data(definition, codec)))
    return b"".join(parts)


def _set_user_data(definition: SetDefinition, codec: SetCodec) -> bytes:
    data = _user_data(_DATA_KEY_ORDER, _order(codec.kinds))
    if codec.data_kinds:
        data += _user_data(_DATA_DATA_ORDER, _order(codec.data_kinds))
    if definition.comment is not None:
        data += _user_data(_DATA_COMMENT, _comment(definition.comment))
    return data


def _order(kinds: Sequence[DataType]) -> bytes:
    """The byte order that nft reads values in; 0 where that is no question.

    Names of interfaces count as host order.
    """
    first = kinds[0]
    if len(kinds) > 1 or first.name == "verdict":
        return bytes(4)
    host = first.host_order or first.name == "ifname"
    return (_ORDER_HOST if host else _ORDER_NETWORK).to_bytes(4, sys.byteorder)


def _create_anonymous(table: Table, made: AnonymousSet, what: str) -> Iterator[Message]:
    codec = SetCodec(made.definition)
    items = [codec.pack(element) for element in made.elements]
    size = sum(2 if made.definition.interval and not codec.concatenated else 1 for _ in items)
    name = attribute_text(1, table.name)
    body = name + describe_set(made.definition, made.id, _ANONYMOUS | _CONSTANT, size)
    say = _say(f"the set of {what}")
    yield Message(batch.NEW_SET, wire.CREATE, _family(table), body, say)
    body = name + attribute_text(2, made.definition.name) + number(4, made.id)
    body += nested(3, *items)
    yield Message(batch.NEW_ELEMENT, wire.CREATE, _family(table), body, say)


def change_elements(type: int, codec: SetCodec, elements: Sequence[Element]) -> Iterator[Message]:
    """Messages that add (NEW_ELEMENT) or remove elements of one set, as many as needed."""
    if not elements:
        return
    pack = codec.pack if type == batch.NEW_ELEMENT else codec.pack_key
    example = elements[0]
    family = FAMILIES[example.family]
    head = attribute_text(1, example.table) + attribute_text(2, example.set)
    flags = wire.CREATE if type == batch.NEW_ELEMENT else 0
    items: list[bytes] = []
    size, start = 0, 0
    packed = map(pack, elements)
    for place, item in enumerate(packed):
        if size + len(item) > _LIST_LIMIT:
            yield _list_message(type, flags, family, head, items, elements[start:place])
            items, size, start = [], 0, place
        items.append(item)
        size += len(item)
    yield _list_message(type, flags, family, head, items, elements[start:])


def _list_message(type: int, flags: int, family: int, head: bytes, items: list[bytes],
                  elements: Sequence[Element]) -> Message:  # fmt: skip
    body = head + nested(3, *items)
    # Header, struct nfgenmsg, the two names, the nest's own header.
    first = wire.HEADER_SIZE + 4 + len(head) + 4
    return Message(
        type, flags, family, body, lambda offset: _find_element(items, elements, first, offset)
    )


def _find_element(items: Iterable[bytes], elements: Sequence[Element], first: int,
                  offset: int) -> str:  # fmt: skip
    """Name the element whose item lies at an offset of the message; the set when none does."""
    element = find_refused(items, elements, first, offset)
    if element is not None:
        return describe_element(element)
    example = elements[0]
    return f"{len(elements)} elements of {example.family} {example.table} {example.set}"


def find_refused(items: Iterable[bytes], elements: Sequence[Element], first: int,
                 offset: int) -> Element | None:  # fmt: skip
    """The element that an offset of a refused attribute points into."""
    if len(elements) == 1:
        return elements[0]
    if offset:
        for item, element in zip(items, elements, strict=True):
            first += len(item)
            if offset < first:
                return element
    return None
