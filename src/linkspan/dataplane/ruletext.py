"""The typed rule language in the syntax of the `nft` program.

For people (explanations, documentation) and for `nft -f`: what is printed here and loaded
by nft is the ruleset that linkspan loads itself from the same records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from linkspan.dataplane.objects import Element, Part
from linkspan.dataplane.rules import (
    Chain,
    Concat,
    Copy,
    Counter,
    Ct,
    Expression,
    Fib,
    FirewallRule,
    Flags,
    Limit,
    Log,
    Lookup,
    Masked,
    Match,
    Meta,
    Named,
    Nat,
    Notrack,
    Numgen,
    Opaque,
    Payload,
    Range,
    Reject,
    SetDefinition,
    SetField,
    SetOf,
    Socket,
    Statement,
    Table,
    Verdict,
    VerdictMap,
)

_BARE_META = ("iifname", "oifname", "iif", "oif")
_NAMES = ("iifname", "oifname", "ibrname", "obrname")
_BITS = (Ct("state"), Ct("status"), Payload("tcp", "flags"))
_MARK_BITS = 0xFFFFFFFF


def ruleset_text(table: Table, elements: Iterable[Element] = ()) -> str:
    """A table as `nft -f` reads it, with the elements that belong to it."""
    held: dict[str, list[Element]] = {}
    for element in elements:
        if (element.family, element.table) == (table.family, table.name):
            held.setdefault(element.set, []).append(element)
    lines = [f"table {table.family} {table.name} {{"]
    if "dormant" in table.flags:
        lines.append("\tflags dormant")
    blocks = [_set_lines(d, held.get(d.name, ())) for d in table.sets]
    blocks += [_chain_lines(chain, table.family) for chain in table.chains]
    for place, block in enumerate(blocks):
        lines += [""] if place else []
        lines += [f"\t{line}" for line in block]
    lines.append("}")
    return "\n".join(lines) + "\n"


def _set_lines(definition: SetDefinition, elements: Sequence[Element]) -> list[str]:
    word = "set" if definition.data is None else "map"
    types = " . ".join(definition.key)
    if definition.data is not None:
        types += " : " + " . ".join(definition.data)
    flags = [
        name
        for name, stated in (
            ("interval", definition.interval),
            ("dynamic", definition.dynamic),
            ("timeout", definition.timeout is not None),
        )
        if stated
    ]
    lines = [f"{word} {definition.name} {{", f"\ttype {types}"]
    if flags:
        lines.append(f"\tflags {','.join(flags)}")
    if definition.timeout:
        lines.append(f"\ttimeout {definition.timeout}s")
    if definition.size:
        lines.append(f"\tsize {definition.size}")
    if definition.comment is not None:
        lines.append(f'\tcomment "{definition.comment}"')
    if elements:
        rows = ", ".join(_element_text(definition, element) for element in elements)
        lines.append(f"\telements = {{ {rows} }}")
    return [*lines, "}"]


def _element_text(definition: SetDefinition, element: Element) -> str:
    last = element.last or element.first
    parts = [
        _typed(low, kind) if low == high else f"{_typed(low, kind)}-{_typed(high, kind)}"
        for low, high, kind in zip(element.first, last, definition.key, strict=True)
    ]
    text = " . ".join(parts)
    if element.data is None or definition.data is None:
        return text
    data = (_typed(p, kind) for p, kind in zip(element.data, definition.data, strict=True))
    return f"{text} : {' . '.join(data)}"


def _typed(part: Part, kind: str) -> str:
    return f'"{part}"' if kind == "ifname" else str(part)


def _chain_lines(chain: Chain, family: str) -> list[str]:
    lines = [f"chain {chain.name} {{"]
    if chain.hook is not None:
        device = "" if chain.device is None else f' device "{chain.device}"'
        lines.append(
            f"\ttype {chain.type} hook {chain.hook}{device} priority {chain.priority}; "
            f"policy {chain.policy};"
        )
    lines += [f"\t{rule_text(rule, family)}" for rule in chain.rules]
    return [*lines, "}"]


def rule_text(rule: FirewallRule, family: str = "inet") -> str:
    """One rule on one line; its own text where it has no statements that linkspan knows."""
    if not rule.statements:
        return rule.text or ""
    text = " ".join(statement_text(statement, family) for statement in rule.statements)
    return text if rule.comment is None else f'{text} comment "{rule.comment}"'


def statement_text(statement: Statement, family: str = "inet") -> str:
    """One statement; `family` is the table's, which some statements are short in."""
    match statement:
        case Match(left, right, op):
            return _match_text(left, right, op)
        case Flags(left, names, invert):
            text = expression_text(left)
            if invert:
                return f"{text} & ({' | '.join(names)}) == 0"
            return f"{text} {','.join(names)}"
        case Verdict(name, target):
            return f"{name} {target}" if target else name
        case VerdictMap(key, content):
            return f"{expression_text(key)} vmap {_map_text(key, content)}"
        case Nat():
            return _nat_text(statement, family)
        case Reject(kind):
            return _reject_text(kind, family)
        case SetField(target, value, mask):
            name = expression_text(target)
            if not mask:
                return f"{name} set {value}"
            operator = "|" if isinstance(value, int) and not value & mask else "^"
            return f"{name} set {name} & {mask:#010x} {operator} {_hex(value)}"
        case Copy(target, source, mask):
            keep = "" if mask & _MARK_BITS == _MARK_BITS else f" & {mask:#010x}"
            return f"{expression_text(target)} set {expression_text(source)}{keep}"
        case Limit(text, over):
            return f"limit rate {'over ' if over else ''}{text}"
        case Counter(packets, size):
            return f"counter packets {packets} bytes {size}" if packets or size else "counter"
        case Log(prefix):
            return f'log prefix "{prefix}"' if prefix else "log"
        case Notrack():
            return "notrack"
        case Opaque(text):
            return text


def expression_text(expression: Expression) -> str:
    """What a packet has, as nft names it."""
    match expression:
        case Meta(field):
            return field if field in _BARE_META else f"meta {field}"
        case Payload(protocol, field):
            return f"{protocol} {field}"
        case Ct(field, direction):
            return f"ct {direction} {field}" if direction else f"ct {field}"
        case Fib(result, flags):
            return f"fib {' . '.join(flags)} {result}"
        case Socket(field):
            return f"socket {field}"
        case Numgen(mode, modulus, offset):
            return f"numgen {mode} mod {modulus}" + (f" offset {offset}" if offset else "")
        case Masked(inner, mask, xor):
            text = f"{expression_text(inner)} & {mask:#010x}"
            return f"{text} ^ {xor:#010x}" if xor else text
        case Concat(parts):
            return " . ".join(expression_text(part) for part in parts)


def _hex(value: Part) -> str:
    return f"{value:#010x}" if isinstance(value, int) else value


def _match_text(left: Expression, right: object, op: str) -> str:
    if op == "==" and not _must_say_equal(left, right):
        return f"{expression_text(left)} {_value_text(left, right)}"
    return f"{expression_text(left)} {op} {_value_text(left, right)}"


def _must_say_equal(left: Expression, right: object) -> bool:
    """Without the operator nft would read a test for bits, or a longer expression."""
    if isinstance(right, (Named, SetOf)):
        return False
    return isinstance(left, Masked) or left in _BITS


def _value_text(left: Expression, right: object) -> str:
    match right:
        case Named(name):
            return f"@{name}"
        case SetOf(values):
            return f"{{ {', '.join(_row_text(left, value) for value in values)} }}"
        case _:
            return _row_text(left, right)


def _row_text(left: Expression, row: object) -> str:
    parts = left.parts if isinstance(left, Concat) else (left,)
    values = row if isinstance(row, tuple) else (row,)
    return " . ".join(_part_text(part, value) for part, value in zip(parts, values, strict=True))


def _part_text(left: Expression, value: object) -> str:
    if isinstance(value, Range):
        return f"{_part_text(left, value.first)}-{_part_text(left, value.last)}"
    if isinstance(left, Meta) and left.field in _NAMES:
        return f'"{value}"'
    return str(value)


def _map_text(key: Expression, content: object) -> str:
    if isinstance(content, str):
        return f"@{content}"
    assert isinstance(content, tuple)
    rows = (f"{_row_text(key, row)} : {_data_text(data)}" for row, data in content)
    return f"{{ {', '.join(rows)} }}"


def _data_text(data: object) -> str:
    if isinstance(data, Verdict):
        return statement_text(data)
    return " . ".join(map(str, data)) if isinstance(data, tuple) else str(data)


def _nat_text(statement: Nat, family: str) -> str:
    words = [statement.kind]
    if statement.family and family not in ("ip", "ip6") and statement.kind in ("dnat", "snat"):
        words.append(statement.family)
    if "prefix" in statement.flags:
        words.append("prefix")
    if statement.lookup is not None:
        looked_up = _lookup_text(statement.lookup)
        if statement.address is not None:
            looked_up = f"{_ends_text(statement.address)}:{looked_up}"
        words += ["to", looked_up]
    elif statement.address is not None or statement.port is not None:
        words += ["to", _endpoint_text(statement.address, statement.port)]
    flags = [flag for flag in statement.flags if flag != "prefix"]
    if flags:
        words.append(",".join(flags))
    return " ".join(words)


def _lookup_text(lookup: Lookup) -> str:
    return f"{expression_text(lookup.key)} map {_map_text(lookup.key, lookup.map)}"


def _endpoint_text(address: Part | Range | None, port: Part | Range | None) -> str:
    text = "" if address is None else _ends_text(address)
    if port is None:
        return text
    if ":" in text:
        text = "-".join(f"[{end}]" for end in text.split("-"))
    return f"{text}:{_ends_text(port)}"


def _ends_text(value: Part | Range) -> str:
    return f"{value.first}-{value.last}" if isinstance(value, Range) else str(value)


def _reject_text(kind: str, family: str) -> str:
    if kind == "tcp reset" or kind.startswith("icmp"):
        return f"reject with {kind}"
    return f"reject with {({'ip': 'icmp', 'ip6': 'icmpv6'}).get(family, 'icmpx')} {kind}"
