"""iptables' targets as effects of the rule language."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from linkspan.dataplane.objects import Part
from linkspan.dataplane.rules import (
    Copy,
    Ct,
    Expression,
    Log,
    Meta,
    Nat,
    Notrack,
    Opaque,
    Payload,
    Range,
    Reject,
    SetField,
    Statement,
    Verdict,
)
from linkspan.kernel.netfilter.iptables.matches import ALL_BITS, NotUnderstoodError
from linkspan.kernel.netfilter.iptables.words import Line

_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "RETURN": "return", "QUEUE": "queue",
             "NFQUEUE": "queue"}  # fmt: skip
_REJECTS = {
    "icmp-net-unreachable": "net-unreachable", "icmp-host-unreachable": "host-unreachable",
    "icmp-proto-unreachable": "prot-unreachable", "icmp-port-unreachable": "port-unreachable",
    "icmp-net-prohibited": "net-prohibited", "icmp-host-prohibited": "host-prohibited",
    "icmp-admin-prohibited": "admin-prohibited", "tcp-reset": "tcp reset",
    "icmp6-no-route": "no-route", "icmp6-adm-prohibited": "admin-prohibited",
    "icmp6-addr-unreachable": "addr-unreachable", "icmp6-port-unreachable": "port-unreachable",
}  # fmt: skip
_GOES_ON = frozenset((
    "CHECKSUM", "TOS", "SECMARK", "CONNSECMARK", "AUDIT", "TRACE", "LED", "IDLETIMER", "RATEEST",
    "SET", "TEE", "ECN", "TCPOPTSTRIP", "NFACCT", "HMARK", "CT", "MARK", "CONNMARK",
))  # fmt: skip
"""Targets after which the next rule comes, whatever they do (they return XT_CONTINUE)."""

Options = Mapping[str, str]


def read_target(line: Line, family: str, chains: Collection[str]) -> tuple[Statement, ...]:
    """What a rule does with a packet that it fits; `chains` are those of the same table."""
    target = line.target
    if target is None:
        return ()
    if target in chains:
        return (Verdict("goto" if line.goto else "jump", target),)
    if target in _VERDICTS:
        return (Verdict(_VERDICTS[target]),)
    options = {option.name: option.value for option in line.options}
    try:
        return (_READERS[target](options, family),)
    except (NotUnderstoodError, KeyError, ValueError):
        text = " ".join([f"-j {target}", *(option.text for option in line.options)])
        return (Opaque(text, test=target not in _GOES_ON),)


def _reject(options: Options, family: str) -> Statement:
    return Reject(_REJECTS[options.get("--reject-with", "icmp-port-unreachable")])


# Translation --------------------------------------------------------------------------


def _translation(kind: str, where: str) -> Callable[[Options, str], Statement]:
    def read(options: Options, family: str) -> Statement:
        address, port = _endpoint(options[where])
        return Nat(kind, address=address, port=port, flags=_nat_flags(options))

    return read


def _to_ports(kind: str) -> Callable[[Options, str], Statement]:
    def read(options: Options, family: str) -> Statement:
        ports = options.get("--to-ports")
        port = None if ports is None else _range(ports)
        return Nat(kind, port=port, flags=_nat_flags(options))

    return read


def _nat_flags(options: Options) -> tuple[str, ...]:
    names = {"--random": "random", "--random-fully": "fully-random", "--persistent": "persistent"}
    return tuple(flag for name, flag in names.items() if name in options)


def _endpoint(text: str) -> tuple[Part | Range | None, Part | Range | None]:
    """ADDRESS[-ADDRESS][:PORT[-PORT]]; IPv6 addresses with a port stand in brackets."""
    if text.startswith("["):
        addresses, _, ports = text[1:].rpartition("]")
        addresses, ports = addresses.replace("[", "").replace("]", ""), ports.removeprefix(":")
    elif text.count(":") > 1:
        addresses, ports = text, ""
    else:
        addresses, _, ports = text.partition(":")
    if "/" in ports:  # a base port to count from
        raise NotUnderstoodError
    first, dash, last = addresses.partition("-")
    address: Part | Range | None = Range(first, last) if dash else first or None
    return address, _range(ports) if ports else None


def _range(text: str) -> Part | Range:
    first, dash, last = text.partition("-")
    return Range(int(first), int(last)) if dash else int(first)


# Marks and the rest -------------------------------------------------------------------


def _set_mark(target: Expression, options: Options) -> Statement:
    """(old & ~mask) ^ value, for all the ways to say it."""
    for name, text in options.items():
        number, _, mask_text = text.partition("/")
        mask = int(mask_text, 0) if mask_text else ALL_BITS
        match name:
            case "--set-xmark":
                return SetField(target, int(number, 0), ~mask & ALL_BITS)
            case "--set-mark":
                value = int(number, 0)
                return SetField(target, value, ~(mask | value) & ALL_BITS)
            case "--and-mark":
                return SetField(target, 0, int(number, 0))
            case "--or-mark":
                value = int(number, 0)
                return SetField(target, value, ~value & ALL_BITS)
            case "--xor-mark":
                return SetField(target, int(number, 0), ALL_BITS)
    raise NotUnderstoodError


def _mark(options: Options, family: str) -> Statement:
    return _set_mark(Meta("mark"), options)


def _connection_mark(options: Options, family: str) -> Statement:
    saves, restores = "--save-mark" in options, "--restore-mark" in options
    if not saves and not restores:
        return _set_mark(Ct("mark"), options)
    masks = [int(options.get(name, "0xffffffff"), 0) for name in ("--nfmask", "--ctmask")]
    if "--mask" in options:
        masks = [int(options["--mask"], 0)] * 2
    packet, connection = masks
    if saves and connection == ALL_BITS:
        return Copy(Ct("mark"), Meta("mark"), packet)
    if restores and packet == ALL_BITS:
        return Copy(Meta("mark"), Ct("mark"), connection)
    raise NotUnderstoodError


def _log(options: Options, family: str) -> Statement:
    return Log(options.get("--log-prefix") or options.get("--nflog-prefix") or "")


def _tracking(options: Options, family: str) -> Statement:
    if "--notrack" in options:
        return Notrack()
    if set(options) == {"--helper"}:
        return SetField(Ct("helper"), f'"{options["--helper"]}"')
    raise NotUnderstoodError


def _segment_size(options: Options, family: str) -> Statement:
    size = options.get("--set-mss")
    return SetField(
        Payload("tcp option maxseg", "size"), "rt mtu" if size is None else int(size, 0)
    )


def _priority(options: Options, family: str) -> Statement:
    return SetField(Meta("priority"), options["--set-class"])


def _service(options: Options, family: str) -> Statement:
    return SetField(Payload(family, "dscp"), int(options["--set-dscp"], 0))


def _hops_left(options: Options, family: str) -> Statement:
    value = options.get("--ttl-set") or options["--hl-set"]
    return SetField(Payload(family, "ttl" if family == "ip" else "hoplimit"), int(value))


_READERS: dict[str, Callable[[Options, str], Statement]] = {
    "REJECT": _reject,
    "DNAT": _translation("dnat", "--to-destination"),
    "SNAT": _translation("snat", "--to-source"),
    "MASQUERADE": _to_ports("masquerade"),
    "REDIRECT": _to_ports("redirect"),
    "MARK": _mark,
    "CONNMARK": _connection_mark,
    "LOG": _log,
    "NFLOG": _log,
    "NOTRACK": lambda options, family: Notrack(),
    "CT": _tracking,
    "TCPMSS": _segment_size,
    "CLASSIFY": _priority,
    "DSCP": _service,
    "TTL": _hops_left,
    "HL": _hops_left,
}
