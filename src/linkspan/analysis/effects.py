"""What rules do: verdicts by map, translations, marks, and leaving tracking alone."""

from __future__ import annotations

from linkspan.analysis.fields import compile_field
from linkspan.analysis.lookups import Sets, compile_lookup
from linkspan.analysis.outcomes import Action, Decision, Outcome, Run
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.values import MISSING, UNKNOWN, to_value
from linkspan.dataplane.rules import (
    Copy,
    Ct,
    Expression,
    Meta,
    Nat,
    Numgen,
    Payload,
    SetField,
    Statement,
    Verdict,
    VerdictMap,
)
from linkspan.dataplane.ruletext import statement_text


def go_on(packet: Packet, run: Run) -> Outcome:
    """A statement that changes nothing that matters here."""
    return True


def pass_over(words: str) -> Action:
    """A statement that is not understood and cannot stop the rule."""

    def passed(packet: Packet, run: Run) -> Outcome:
        run.misunderstood(words)
        return True

    return passed


def leave_untracked(packet: Packet, run: Run) -> Outcome:
    """notrack: connection tracking, which comes later, leaves the packet alone."""
    if packet.state == "none":
        packet.state = "untracked"
    return True


def compile_verdict_map(
    key: Expression, content: object, place: Place, sets: Sets, statement: VerdictMap
) -> Action:
    """vmap: the verdict that a packet's fields find; nothing found goes on."""
    named = isinstance(content, str)
    look_up = compile_lookup(key, content if named else None, content, place, sets)  # type: ignore[arg-type]

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
        return False if taken is None else taken

    return decide


def _as_decision(data: object, statement: Statement) -> Decision:
    if isinstance(data, Verdict):
        return Decision(data.name, data.target, statement)
    text = data[0] if isinstance(data, tuple) else data
    name, _, target = str(text).partition(" ")
    return Decision(name, target or None, statement)


def compile_translation(statement: Nat, place: Place, sets: Sets) -> Action:
    """dnat, snat, masquerade, redirect; the rule stops where a map has nothing."""
    lookup = statement.lookup
    if lookup is None:

        def translate(packet: Packet, run: Run) -> Outcome:
            return Decision(run.translate(packet, statement, None), None, statement)

        return translate
    content = lookup.map
    look_up = compile_lookup(
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


def compile_set_field(statement: SetField) -> Action:
    """Setting a mark; other fields decide nothing here, or are said not to be understood."""
    target, value, mask = statement.target, statement.value, statement.mask
    match target:
        case Meta("mark") | Ct("mark"):
            number = int(to_value("mark", value))

            def set_mark(packet: Packet, run: Run) -> Outcome:
                return _store_mark(packet, target, _read_mark(packet, target) & mask ^ number)

            return set_mark
        case Meta("pkttype" | "priority" | "nftrace" | "secmark"):
            return go_on
        case Payload(_, "dscp" | "ttl" | "hoplimit" | "ecn") | Ct("helper" | "label" | "event"):
            return go_on
        case Payload("tcp option maxseg", _):
            return go_on
        case Payload(protocol, field) if (protocol, field) in _HEADERS:
            return _write_header(statement, protocol, field)
    return pass_over(statement_text(statement))


_HEADERS: dict[tuple[str, str], str] = {
    **{(family, "saddr"): "source" for family in ("ip", "ip6")},
    **{(family, "daddr"): "destination" for family in ("ip", "ip6")},
    **{(protocol, "sport"): "source_port" for protocol in ("tcp", "udp", "th")},
    **{(protocol, "dport"): "destination_port" for protocol in ("tcp", "udp", "th")},
}


def _write_header(statement: SetField, protocol: str, field: str) -> Action:
    """Writing an address or port into this packet alone: no connection knows of it."""
    if statement.mask:
        return pass_over(statement_text(statement))
    kind = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}.get(protocol, "inet_service")
    number = int(to_value(kind, statement.value))
    slot = _HEADERS[protocol, field]
    with_protocol = {"tcp": 6, "udp": 17}.get(protocol)

    def write(packet: Packet, run: Run) -> Outcome:
        if protocol in ("ip", "ip6"):
            if packet.ether_type != protocol:
                return False
        elif packet.protocol != (with_protocol or packet.protocol):
            return False
        before = packet.flow
        setattr(packet, slot, number)
        run.rewritten(before, packet.flow, statement_text(statement))
        return True

    return write


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


def compile_copy(statement: Copy, place: Place) -> Action:
    """Copying one mark to the other, through a mask."""
    target, mask = statement.target, statement.mask
    if target not in (Meta("mark"), Ct("mark")):
        return pass_over(statement_text(statement))
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
