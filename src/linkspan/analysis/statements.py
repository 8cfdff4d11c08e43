"""Statements as functions: each of the rule language, ready to be run on packets.

A compiled statement takes the packet and the run, and gives True (go on with the next
statement), False (this rule is done), None (it cannot be said which), or a decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from linkspan.analysis.choices import Choices
from linkspan.analysis.fields import compile_field, parts_of
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.sets import Collection, from_rows, matches_name
from linkspan.analysis.values import MISSING, UNKNOWN, to_span, to_value
from linkspan.dataplane.rules import (
    Concat,
    Copy,
    Counter,
    Ct,
    Expression,
    Flags,
    Limit,
    Log,
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
    SetField,
    SetOf,
    Statement,
    Verdict,
    VerdictMap,
)
from linkspan.dataplane.ruletext import statement_text


class Decision(NamedTuple):
    """What a rule decided: a verdict's name, the chain that it names, the statement behind it."""

    name: str
    target: str | None = None
    statement: Statement | None = None


class Run(Protocol):
    """What statements need of the walk that runs them."""

    choices: Choices

    def translate(self, packet: Packet, statement: Nat, to: tuple[Any, ...] | None) -> str:
        """Carry out a translation; "accept", or "drop" where there is no address for it."""

    def misunderstood(self, what: str) -> None:
        """Note what was passed over without being understood."""


Outcome: TypeAlias = "bool | Decision | None"
Action: TypeAlias = Callable[[Packet, Run], Outcome]


class Compiled(NamedTuple):
    """A statement ready to run. `test`: it only looks. `idle`: it changes nothing. `opaque`:
    nobody understood it, so that it may do more than is known.
    """

    run: Action
    test: bool = False
    idle: bool = False
    opaque: bool = False
    statement: Statement | None = None
    family: str = ""

    @property
    def text(self) -> str:
        """The statement as nft would print it."""
        return "" if self.statement is None else statement_text(self.statement, self.family)


class Sets:
    """The sets of one table, each put in order when a rule first looks into it."""

    def __init__(self, definitions: Mapping[str, tuple[str, ...]],
                 load: Callable[[str], Collection]) -> None:  # fmt: skip
        self.definitions = definitions
        self._load = load
        self._held: dict[str, Collection | None] = {}

    def get(self, name: str) -> Collection | None:
        """The set of a name; None when it is not known, or holds what cannot be compared."""
        if name not in self._held:
            try:
                self._held[name] = self._load(name) if name in self.definitions else None
            except ValueError:
                self._held[name] = None
        return self._held[name]


def compile_statement(statement: Statement, place: Place, sets: Sets, family: str) -> Compiled:
    """A statement of a table of `family` as a function; what cannot be compiled is a test
    whose outcome is not known.
    """
    made = _compile(statement, place, sets)
    return Compiled(made.run, made.test, made.idle, made.opaque, statement, family)


def _compile(statement: Statement, place: Place, sets: Sets) -> Compiled:
    try:
        match statement:
            case Match(left, right, op):
                return Compiled(_match(left, right, op, place, sets), test=True)
            case Flags(left, names, invert):
                return Compiled(_flags(left, names, invert, place), test=True)
            case Verdict(name, target):
                return _constant(Decision(name, target, statement))
            case Reject():
                return _constant(Decision("reject", None, statement))
            case VerdictMap(key, content):
                return Compiled(_verdict_map(key, content, place, sets, statement))
            case Nat():
                return Compiled(_nat(statement, place, sets))
            case SetField():
                return Compiled(_set_field(statement))
            case Copy():
                return Compiled(_copy(statement, place))
            case Notrack():
                return Compiled(_notrack)
            case Limit():
                return Compiled(_cannot_say, test=True)
            case Counter() | Log():
                return Compiled(_go_on, idle=True)
            case Opaque(words, test):
                run = _cannot_say if test else _pass_over(words)
                return Compiled(run, test=test, opaque=True)
    except (ValueError, KeyError, TypeError, NotImplementedError):
        return Compiled(_cannot_say, test=True)


def _go_on(packet: Packet, run: Run) -> Outcome:
    return True


def _cannot_say(packet: Packet, run: Run) -> Outcome:
    return None


def _pass_over(words: str) -> Action:
    def pass_over(packet: Packet, run: Run) -> Outcome:
        run.misunderstood(words)
        return True

    return pass_over


def _constant(decision: Decision) -> Compiled:
    return Compiled(lambda packet, run: decision)


def _notrack(packet: Packet, run: Run) -> Outcome:
    if packet.state == "none":
        packet.state = "untracked"
    return True


def _match(left: Expression, right: object, op: str, place: Place, sets: Sets) -> Action:
    if isinstance(right, (Named, SetOf)):
        return _membership(left, right, op == "!=", place, sets)
    if isinstance(left, Concat) and len(left.parts) > 1:
        return _membership(left, SetOf((right,)), op == "!=", place, sets)  # type: ignore[arg-type]
    field = compile_field(left, place)
    load = field.load
    assert isinstance(right, (str, int, Range))
    if field.kind == "iface_index":
        right = _name_link(right, place)
    first, last = to_span(field.kind, right)
    test = _comparison(first, last, op)

    def match(packet: Packet, run: Run) -> Outcome:
        value = load(packet)
        if value is MISSING:
            return False
        return None if value is UNKNOWN else test(value)

    return match


def _name_link(right: str | int | Range, place: Place) -> str | Range:
    """What an interface index is compared with, by name; "missing" and 0 are no link."""
    if isinstance(right, (bool, Range)):
        raise NotImplementedError
    if right in ("missing", 0):
        return ""
    return place.link_by_number(right) if isinstance(right, int) else right


def _comparison(first: Any, last: Any, op: str) -> Callable[[Any], bool]:
    match op:
        case "==" if isinstance(first, str):
            if first.endswith("*"):
                return lambda value: matches_name(first, value)
            return lambda value: bool(value == first)
        case "!=" if isinstance(first, str):
            return lambda value: not matches_name(first, value)
        case "==" if first == last:
            return lambda value: bool(value == first)
        case "==":
            return lambda value: bool(first <= value <= last)
        case "!=":
            return lambda value: not first <= value <= last
        case "<":
            return lambda value: bool(value < first)
        case ">":
            return lambda value: bool(value > last)
        case "<=":
            return lambda value: bool(value <= last)
        case ">=":
            return lambda value: bool(value >= first)
    raise NotImplementedError(op)


def _membership(
    left: Expression, right: Named | SetOf, invert: bool, place: Place, sets: Sets
) -> Action:
    look_up = _look_up(left, right.name if isinstance(right, Named) else None,
                       () if isinstance(right, Named) else [(row, None) for row in right.values],
                       place, sets)  # fmt: skip

    def member(packet: Packet, run: Run) -> Outcome:
        found = look_up(packet)
        if found is MISSING:
            return False
        if found is UNKNOWN:
            return None
        data, may_miss = found
        if not data:
            return invert
        return None if may_miss else not invert

    return member


def _look_up(
    key: Expression, name: str | None, rows: Any, place: Place, sets: Sets
) -> Callable[[Packet], Any]:
    """The function from a packet to what a set or map has for it (sets.Found)."""
    fields = [compile_field(part, place) for part in parts_of(key)]
    if name is None:
        collection: Collection | None = from_rows([field.kind for field in fields], rows)
    else:
        collection = None
    loads = [field.load for field in fields]

    def look_up(packet: Packet) -> Any:
        held = collection if name is None else sets.get(name)
        if held is None:
            return UNKNOWN
        values = []
        for load in loads:
            value = load(packet)
            if value is MISSING:
                return MISSING
            values.append(value)
        return held.look_up(values)

    return look_up


def _flags(left: Expression, names: tuple[str, ...], invert: bool, place: Place) -> Action:
    field = compile_field(left, place)
    bits = 0
    for name in names:
        bits |= int(to_value(field.kind, name))

    def flags(packet: Packet, run: Run) -> Outcome:
        value = field.load(packet)
        if value is MISSING:
            return False
        if not isinstance(value, int):
            return None
        return bool(value & bits) != invert

    return flags


def _verdict_map(
    key: Expression, content: object, place: Place, sets: Sets, statement: VerdictMap
) -> Action:
    named = isinstance(content, str)
    look_up = _look_up(key, content if named else None, content, place, sets)  # type: ignore[arg-type]

    def decide(packet: Packet, run: Run) -> Outcome:
        found = look_up(packet)
        if found is MISSING:
            return False
        if found is UNKNOWN:
            return None
        options: list[Decision | None] = [_as_decision(data, statement) for data in found.data]
        if found.may_miss and not (options and isinstance(key, Numgen)):
            options.append(None)
        taken = run.choices.choose(
            f"what {statement_text(statement)!r} finds",
            options,
            ["nothing" if o is None else f"{o.name} {o.target or ''}".strip() for o in options],
        )
        return True if taken is None else taken

    return decide


def _as_decision(data: object, statement: Statement) -> Decision:
    if isinstance(data, Verdict):
        return Decision(data.name, data.target, statement)
    text = data[0] if isinstance(data, tuple) else data
    name, _, target = str(text).partition(" ")
    return Decision(name, target or None, statement)


def _nat(statement: Nat, place: Place, sets: Sets) -> Action:
    lookup = statement.lookup
    if lookup is None:

        def translate(packet: Packet, run: Run) -> Outcome:
            return Decision(run.translate(packet, statement, None), None, statement)

        return translate
    content = lookup.map
    look_up = _look_up(
        lookup.key, content if isinstance(content, str) else None, content, place, sets
    )

    def translate_by_map(packet: Packet, run: Run) -> Outcome:
        found = look_up(packet)
        if found is MISSING or (found is not UNKNOWN and not found.data):
            return False
        if found is UNKNOWN:
            return None
        options = list(found.data)
        if found.may_miss and not isinstance(lookup.key, Numgen):
            options.append(None)
        data = run.choices.choose(
            f"what {statement_text(statement)!r} finds", options, [_data_text(o) for o in options]
        )
        if data is None:
            return False
        row = data if isinstance(data, tuple) else (data,)
        return Decision(run.translate(packet, statement, row), None, statement)

    return translate_by_map


def _data_text(data: object) -> str:
    if data is None:
        return "nothing"
    return " ".join(map(str, data)) if isinstance(data, tuple) else str(data)


def _set_field(statement: SetField) -> Action:
    target, value, mask = statement.target, statement.value, statement.mask
    match target:
        case Meta("mark") | Ct("mark"):
            number = int(to_value("mark", value))

            def set_mark(packet: Packet, run: Run) -> Outcome:
                return _store_mark(packet, target, _read_mark(packet, target) & mask ^ number)

            return set_mark
        case Meta("pkttype" | "priority" | "nftrace" | "secmark"):
            return _go_on
        case Payload(_, "dscp" | "ttl" | "hoplimit" | "ecn") | Ct("helper" | "label" | "event"):
            return _go_on
    return _pass_over(statement_text(statement))


def _read_mark(packet: Packet, source: Expression) -> int:
    if source == Meta("mark"):
        return packet.mark
    return 0 if packet.connection is None else packet.connection.mark


def _store_mark(packet: Packet, target: Expression, number: int) -> Outcome:
    if target == Meta("mark"):
        packet.mark = number & 0xFFFFFFFF
    elif packet.connection is not None:
        packet.connection.mark = number & 0xFFFFFFFF
    return True


def _copy(statement: Copy, place: Place) -> Action:
    target, mask = statement.target, statement.mask
    if target not in (Meta("mark"), Ct("mark")):
        return _pass_over(statement_text(statement))
    load = compile_field(statement.source, place).load

    def copy(packet: Packet, run: Run) -> Outcome:
        value = load(packet)
        if value is MISSING:
            return False
        if not isinstance(value, int):
            run.misunderstood(statement_text(statement))
            return True
        return _store_mark(packet, target, value & mask)

    return copy
