"""Who decides that a packet goes no further, and what can be done: a line or two after an answer.

Only what follows from the answer is said; where nothing does, nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from linkspan.analysis import Answer, Trace, Verdict, View
from linkspan.analysis.addresses import is_loopback, to_number, version_of
from linkspan.analysis.trace import GOOD, Disposition
from linkspan.dataplane import HOST, Link, Listener

_POLICY = re.compile(r" by the policy of (?P<family>\w+) (?P<table>\S+) (?P<chain>\S+)")
_RULE = re.compile(r" by (?P<family>\w+) (?P<table>\S+) (?P<chain>\S+)")
_SOUGHT = re.compile(r"nobody answers for (?P<address>\S+) on (?P<link>\S+)")
_IPTABLES = frozenset(("filter", "nat", "mangle", "raw", "security"))


def advise(answer: Answer, view: View) -> Iterator[str]:
    """Lines for the first way of an answer that is not "delivered"; `view` is what it is about."""
    if answer.verdict is Verdict.DELIVERED:
        return
    for trace in answer.traces:
        failing = _failing_leg(trace)
        if failing is not None:
            yield from _advise_leg(failing, failing is not trace, view)
            return


def _failing_leg(trace: Trace) -> Trace | None:
    for leg in trace.legs:
        if leg.disposition not in GOOD:
            return leg
    if trace.onward is not None:
        failing = (_failing_leg(one) for one in trace.onward.traces)
        return next((leg for leg in failing if leg is not None), None)
    return None


def _advise_leg(leg: Trace, later: bool, view: View) -> Iterator[str]:
    where = leg.namespace
    match leg.disposition:
        case Disposition.DROPPED | Disposition.REJECTED:
            yield _who_wrote(leg.reason, where)
        case Disposition.REFUSED:
            yield from _who_listens(leg, view)
        case Disposition.REVERSE_PATH:
            yield (
                f"Decided by net.ipv4.conf.*.rp_filter of {where}: the highest of `all` and the "
                "link counts. Route the answer the same way, or set it to 2 (loose)."
            )
        case Disposition.NOT_FORWARDED:
            if "forwarding is 0" in leg.reason:
                setting = "ipv4.ip_forward" if leg.sent.version == 4 else "ipv6.conf.all.forwarding"
                yield (
                    f"Who routes for others has to forward: `sysctl -w net.{setting}=1` in {where} "
                    "switches it on for all links."
                )
        case Disposition.MARTIAN:
            yield f"Decided by the kernel of {where} from the addresses, before any rule."
        case Disposition.NO_ROUTE:
            yield f"Decided by the routes of {where}: `ip route get {leg.sent.destination}` there."
            if "has no route" in leg.reason:
                yield from _why_no_route(leg, view)
        case Disposition.NEIGHBOUR_UNREACHABLE:
            yield from _who_should_answer(leg, view)
        case Disposition.ISOLATED | Disposition.NOT_BRIDGED:
            yield f"Decided by the bridge in {where}: `bridge -d link` shows its ports."
        case Disposition.LINK_DOWN:
            yield f"Bring it up: `ip link set NAME up` in {where}."
        case Disposition.WRONG_ADDRESS if later:
            yield "The way back is not the way there: only one of them is translated."


def _who_listens(leg: Trace, view: View) -> Iterator[str]:
    where, flow = leg.namespace, leg.arrived
    port, protocol = flow.destination_port, flow.protocol
    near = [
        one for one in view.plane.of(Listener)
        if (one.namespace, one.port, one.protocol) == (where, port, protocol)
        and is_loopback(to_number(one.address), version_of(one.address))
    ]  # fmt: skip
    if near:
        yield (
            f"The network is fine: it arrives. But on port {port}/{protocol} {where} listens on "
            f"{near[0].address} only, for itself: let the program listen on all addresses."
        )
    else:
        yield (
            f"The network is fine: it arrives. Start a program on port {port}/{protocol} in "
            f"{where}, listening on this address or on all of them, or ask for another port."
        )
    if where == HOST:
        yield (
            "A port that is published on another address only, such as 127.0.0.1, looks like "
            "this too, and one of a container that stopped: `linkspan exposed` shows what is "
            "open to strangers."
        )


def _why_no_route(leg: Trace, view: View) -> Iterator[str]:
    place = view.place(leg.namespace)
    number, version = to_number(leg.sent.destination), leg.sent.version
    down = [
        one.link for one in place.addresses
        if not place.is_up(one.link)
        and (place.name != HOST or (one.version == version and one.network.holds(number)))
    ]  # fmt: skip
    if down:
        yield (
            f"{down[0]} of {place.name} is down, and so are its routes: `ip link set {down[0]} "
            "up` there, then add what routes by gateways it had."
        )
    elif place.name != HOST:
        yield "A container of an internal network has no way out, by intention."


def _who_should_answer(leg: Trace, view: View) -> Iterator[str]:
    found, where = _SOUGHT.search(leg.reason), leg.namespace
    if found is None:
        return
    address, link = found["address"], found["link"]
    down = _find_down(view, where, link, address)
    if down:
        name, namespace = down.name, down.namespace
        yield f"{name} of {namespace} is down: `ip link set {name} up` there."
        return
    if address != leg.arrived.destination:
        yield (
            f"{address} is the gateway that a route of {where} names: `ip route` there. Correct "
            f"the route, or bring up the router that should have the address on {link}."
        )
        return
    owners = view.owners.get((version_of(address), to_number(address)), ())
    if owners:
        yield (
            f"{owners[0]} has {address}, but nothing joins it to {link} of {where}: "
            "`linkspan map` shows what is joined."
        )
    else:
        yield f"Nobody here has {address}: a container that stopped, or a wrong address."


def _find_down(view: View, where: str, link: str, address: str) -> Link | None:
    """The first link that is down of the one that asks, those at which somebody has the
    address, and the other ends of their cables.
    """
    version, number = version_of(address), to_number(address)
    ends = [(where, link)]
    for owner in view.owners.get((version, number), ()):
        ends += [
            (owner, own.link) for own in view.place(owner).addresses
            if (own.version, own.number) == (version, number)
        ]  # fmt: skip
    for namespace, name in ends:
        found = view.place(namespace).links.get(name)
        for one in (found, found and view.peer(found)):
            if one is not None and not view.place(one.namespace).is_up(one.name):
                return one
    return None


def _who_wrote(reason: str, where: str) -> str:
    policy = _POLICY.search(reason)
    found = policy or _RULE.search(reason)
    if found is None:
        return f"Decided by the firewall of {where}."
    family, table, chain = found["family"], found["table"], found["chain"]
    if table.startswith("linkspan"):
        return (
            f"linkspan's own rule in {where}: networks are closed to each other and to strangers "
            "but for published ports. `linkspan publish`, `network connect` or `policy` open it."
        )
    show = f"nft list chain {family} {table} {chain}"
    if table in _IPTABLES and chain.isupper():
        show = f"{'ip6tables' if family == 'ip6' else 'iptables'} -t {table} -vnL {chain}"
    if policy is not None:
        return (
            f"No rule of that chain of {where} accepts the packet: `{show}`. Add one; or, where a "
            "program such as Docker should have, its rules are gone: restart it."
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
    return f"{who} of {where}: `{show}` counts what it takes."
