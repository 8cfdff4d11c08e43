"""Who decides that a packet goes no further, and what can be done: a line or two after an answer.

Only what follows from the answer is said; where nothing does, nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from linkspan.analysis import Answer, Trace, Verdict
from linkspan.analysis.trace import GOOD, Disposition
from linkspan.dataplane.objects import HOST

_RULE = re.compile(r" (?:by|policy of) (?P<family>\w+) (?P<table>\S+) (?P<chain>\S+)")
_IPTABLES = frozenset(("filter", "nat", "mangle", "raw", "security"))


def advise(answer: Answer) -> Iterator[str]:
    """Lines for the first way of an answer that is not "delivered"."""
    if answer.verdict is Verdict.DELIVERED:
        return
    for trace in answer.traces:
        failing = _failing_leg(trace)
        if failing is not None:
            yield from _advise_leg(failing, failing is not trace)
            return


def _failing_leg(trace: Trace) -> Trace | None:
    for leg in trace.legs:
        if leg.disposition not in GOOD:
            return leg
    if trace.onward is not None:
        failing = (_failing_leg(one) for one in trace.onward.traces)
        return next((leg for leg in failing if leg is not None), None)
    return None


def _advise_leg(leg: Trace, later: bool) -> Iterator[str]:
    where = leg.namespace
    match leg.disposition:
        case Disposition.DROPPED | Disposition.REJECTED:
            yield _who_wrote(leg.reason, where)
        case Disposition.REFUSED:
            port, protocol = leg.arrived.destination_port, leg.arrived.protocol
            yield (
                f"The network is fine: it arrives. Start a program on port {port}/{protocol} in "
                f"{where}, listening on this address or on all of them, or ask for another port."
            )
            if where == HOST:
                yield (
                    "A port that is published on another address only, such as 127.0.0.1, looks "
                    "like this too: `linkspan exposed` shows what is open to strangers."
                )
        case Disposition.REVERSE_PATH:
            yield (
                f"Decided by net.ipv4.conf.*.rp_filter of {where}: the highest of `all` and the "
                "link counts. Route the answer the same way, or set it to 2 (loose)."
            )
        case Disposition.NOT_FORWARDED:
            yield f"Decided by the setting above, in {where}: who routes there has to forward."
        case Disposition.MARTIAN:
            yield f"Decided by the kernel of {where} from the addresses, before any rule."
        case Disposition.NO_ROUTE:
            yield f"Decided by the routes of {where}: `ip route get {leg.sent.destination}` there."
            if "has no route" in leg.reason:
                yield "A container of an internal network has no way out, by intention."
        case Disposition.NEIGHBOUR_UNREACHABLE:
            yield f"Nobody has that address on that link: look for a stopped container, in {where}."
        case Disposition.ISOLATED | Disposition.NOT_BRIDGED:
            yield f"Decided by the bridge in {where}: `bridge -d link` shows its ports."
        case Disposition.LINK_DOWN:
            yield f"Bring it up: `ip link set NAME up` in {where}."
        case Disposition.WRONG_ADDRESS if later:
            yield "The way back is not the way there: only one of them is translated."


def _who_wrote(reason: str, where: str) -> str:
    found = _RULE.search(reason)
    if found is None:
        return f"Decided by the firewall of {where}."
    family, table, chain = found["family"], found["table"], found["chain"]
    if table.startswith("linkspan"):
        return (
            f"linkspan's own rule in {where}: networks are closed to each other and to strangers "
            "but for published ports. `linkspan publish`, `network connect` or `policy` open it."
        )
    if chain.startswith("DOCKER") or table.startswith("docker"):
        who = "Docker's rule"
    elif table.startswith("netavark") or chain.startswith("NETAVARK"):
        who = "Podman's rule"
    elif chain.startswith(("CNI", "cni")) or table.startswith("cni"):
        who = "a CNI plugin's rule"
    elif chain.startswith("ufw"):
        who = "ufw's rule"
    elif table == "firewalld":
        who = "firewalld's rule"
    else:
        who = "A rule"
    show = f"nft list chain {family} {table} {chain}"
    if table in _IPTABLES and chain.isupper():
        show = f"{'ip6tables' if family == 'ip6' else 'iptables'} -t {table} -vnL {chain}"
    return f"{who} of {where}: `{show}` counts what it takes."
