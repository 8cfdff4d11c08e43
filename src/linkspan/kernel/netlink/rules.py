"""Policy routing rules on the wire (RTM_*RULE; linux/fib_rules.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from linkspan.dataplane.objects import Rule
from linkspan.errors import InvalidRequest
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.text import FAMILIES, prefix_text, split_prefix

NEWRULE = 32
DELRULE = 33
GETRULE = 34

_DESTINATION = 1
_SOURCE = 2
_INPUT_LINK = 3
_GOTO = 4
_PRIORITY = 6
_MARK = 10
_SUPPRESS_GROUP = 13
_SUPPRESS_PREFIX_LENGTH = 14
_TABLE = 15
_MARK_MASK = 16
_OUTPUT_LINK = 17
_UID_RANGE = 20
_PROTOCOL = 21
_IP_PROTOCOL = 22
_SOURCE_PORTS = 23
_DESTINATION_PORTS = 24
_L3MDEV = 19
_OTHERS = {12: "tun_id", 25: "dscp", 26: "flowlabel"}
"""Tests of tunnels and of newer kernels (linux/fib_rules.h): a walk does not know these."""
_PORT_MASKS = {28: "sport mask", 29: "dport mask"}
_WHOLE_MASK = 0xFFFFFFFF
_INVERT = 0x2
_TABLE_UNSPECIFIED = 0

_ACTIONS = {"lookup": 1, "goto": 2, "nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}
_ACTION_NAMES = {number: name for name, number in _ACTIONS.items()}

# struct fib_rule_hdr: family, destination and source length, tos, table, -, -, action, flags
_info = struct.Struct("=BBBBBxxBI")
_two_u16 = struct.Struct("=HH")
_two_u32 = struct.Struct("=II")


def add(rule: Rule) -> bytes:
    """The message that adds a rule; refused when there is one just like it."""
    return _message(NEWRULE, wire.CREATE | wire.EXCLUDE, rule)


def remove(rule: Rule) -> bytes:
    """The message that deletes the rule with this priority that matches all that is stated."""
    return _message(DELRULE, 0, rule)


def _message(type: int, flags: int, rule: Rule) -> bytes:
    action, _, target = rule.action.partition(" ")
    if action not in _ACTIONS:
        raise InvalidRequest(
            f'"{rule.action}" is no action of a rule: use one of {", ".join(_ACTIONS)}'
        )
    parts = [wire.attribute_u32(_PRIORITY, rule.priority)]
    lengths = []
    for prefix, attribute in ((rule.destination, _DESTINATION), (rule.source, _SOURCE)):
        data, length = split_prefix(prefix) if prefix is not None else (b"", 0)
        lengths.append(length)
        if prefix is not None:
            parts.append(wire.attribute(attribute, data))
    for name, attribute in ((rule.input_link, _INPUT_LINK), (rule.output_link, _OUTPUT_LINK)):
        if name is not None:
            parts.append(wire.attribute_text(attribute, name))
    for number, attribute in (
        (rule.mark, _MARK),
        (rule.mark_mask, _MARK_MASK),
        (rule.suppress_prefix_length, _SUPPRESS_PREFIX_LENGTH),
        (rule.table, _TABLE),
    ):
        if number is not None:
            parts.append(wire.attribute_u32(attribute, number))
    if action == "goto" and target.isdecimal():
        parts.append(wire.attribute_u32(_GOTO, int(target)))
    if rule.protocol is not None:
        parts.append(wire.attribute_u8(_PROTOCOL, rule.protocol))
    if rule.ip_protocol is not None:
        parts.append(wire.attribute_u8(_IP_PROTOCOL, rule.ip_protocol))
    if rule.uid_range is not None:
        parts.append(wire.attribute(_UID_RANGE, _two_u32.pack(*rule.uid_range)))
    for ports, attribute in (
        (rule.source_ports, _SOURCE_PORTS),
        (rule.destination_ports, _DESTINATION_PORTS),
    ):
        if ports is not None:
            parts.append(wire.attribute(attribute, _two_u16.pack(*ports)))
    table = rule.table if rule.table is not None and rule.table <= 255 else _TABLE_UNSPECIFIED
    header = _info.pack(
        FAMILIES[rule.family == "ip6"], lengths[0], lengths[1], rule.tos, table,
        _ACTIONS[action], _INVERT if rule.invert else 0,
    )  # fmt: skip
    return wire.pack_message(type, flags, 0, header + b"".join(parts))


def list_all(family: int) -> bytes:
    """The message whose dump is every rule of one family."""
    return wire.pack_message(GETRULE, 0, 0, _info.pack(family, 0, 0, 0, 0, 0, 0))


def decode(payload: bytes, namespace: str) -> Rule | None:
    """A rule from the payload of an RTM_NEWRULE message; None for another family's."""
    family, to_length, from_length, tos, table, action, flags = _info.unpack_from(payload)
    if family not in FAMILIES:
        return None
    attributes = wire.parse_attributes(payload, _info.size)
    get = attributes.get

    def number(type: int) -> int | None:
        data = get(type)
        return None if data is None else int.from_bytes(data, wire.ORDER)

    def name(type: int) -> str | None:
        data = get(type)
        return None if data is None else wire.read_text(data)

    mask = number(_MARK_MASK)
    suppress, group = number(_SUPPRESS_PREFIX_LENGTH), number(_SUPPRESS_GROUP)
    action_name = _ACTION_NAMES.get(action, str(action))
    if action_name == "goto":
        action_name = f"goto {number(_GOTO)}"
    source, destination, uids = get(_SOURCE), get(_DESTINATION), get(_UID_RANGE)
    return Rule(
        namespace=namespace,
        priority=number(_PRIORITY) or 0,
        family="ip6" if family == FAMILIES[1] else "ip",
        source=prefix_text(source, from_length, family) if source else None,
        destination=prefix_text(destination, to_length, family) if destination else None,
        input_link=name(_INPUT_LINK),
        output_link=name(_OUTPUT_LINK),
        mark=number(_MARK),
        mark_mask=None if mask == _WHOLE_MASK else mask,
        table=(number(_TABLE) or table or None) if action_name == "lookup" else None,
        action=action_name,
        invert=bool(flags & _INVERT),
        tos=tos,
        protocol=number(_PROTOCOL),
        suppress_prefix_length=None if suppress == _WHOLE_MASK else suppress,
        uid_range=_pair(_two_u32, uids),
        ip_protocol=number(_IP_PROTOCOL),
        source_ports=_pair(_two_u16, get(_SOURCE_PORTS)),
        destination_ports=_pair(_two_u16, get(_DESTINATION_PORTS)),
        l3mdev=bool(number(_L3MDEV)),
        suppress_group=None if group == _WHOLE_MASK else group,
        others=tuple(_other_tests(attributes)),
    )


def _other_tests(attributes: dict[int, bytes]) -> Iterator[str]:
    for type, name in _OTHERS.items():
        if type in attributes:
            yield f"{name} {int.from_bytes(attributes[type], 'big')}"
    for type, name in _PORT_MASKS.items():
        mask = int.from_bytes(attributes.get(type, b""), wire.ORDER)
        if mask not in (0, 0xFFFF):
            yield f"{name} {mask:#x}"


def _pair(layout: struct.Struct, data: bytes | None) -> tuple[int, int] | None:
    if data is None:
        return None
    first, last = layout.unpack(data)
    return first, last
