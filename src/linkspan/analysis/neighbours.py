"""Who has an address on a link: entries of the neighbour table, and asking the segment.

Asking is walked as the kernel does it: a request to everybody through the bridges and their
rules, an answer from who has the address (or answers for another: proxy), and its way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from linkspan.analysis.addresses import is_link_local, to_number, to_text
from linkspan.analysis.admission import Admitted, admit
from linkspan.analysis.choices import Choices
from linkspan.analysis.conntrack import Tracker
from linkspan.analysis.hooks import pass_hook
from linkspan.analysis.journey import STRANGER_MAC, Journey, Stranger
from linkspan.analysis.packet import ADVERTISE, BROADCAST, SOLICIT, Packet
from linkspan.analysis.place import Place
from linkspan.analysis.recorder import Silence
from linkspan.analysis.segment import Heard, arrive, spread
from linkspan.analysis.source import select_ipv4, select_ipv6
from linkspan.analysis.traced import Derived, DerivedText, Traced
from linkspan.analysis.view import View
from linkspan.dataplane.links import Dummy, Ipvlan, Loopback, Tun

OUTSIDE_MAC = "mac-of-somebody-outside"
_USABLE = frozenset(("permanent", "reachable", "stale", "delay", "probe", "noarp"))
_GROUP = to_number("ff02::1")
_SOLICITED = to_number("ff02::1:ff00:0")
_MOST_HELD = 64
"""Answers that are remembered for one question of traced packets."""


class Neighbour(NamedTuple):
    """The MAC that frames to an address get, and how that is known."""

    mac: str
    how: str


class Learned(NamedTuple):
    """Somebody knows the MAC of who has asked him. `asker` is his address, or for a traced
    packet the header field that it came from.
    """

    namespace: str
    link: str
    version: int
    asker: int | str
    mac: str


class Asked(NamedTuple):
    """What asking a segment gave."""

    answers: list[str]
    """The MACs that answered."""
    outside: bool
    """The request also went where nobody was observed."""
    learned: list[Learned]
    """What the asked ones know now."""


class Unreachable(NamedTuple):
    """Nobody answers for an address, and why."""

    reason: str


def resolve(
    journey: Journey, place: Place, link: str, version: int, address: int, source: int
) -> Neighbour | Unreachable:
    """The neighbour that has an address on a link. `source` is that of the waiting packet."""
    found = place.links.get(link)
    if found is not None and isinstance(found.kind, (Loopback, Tun, Dummy)):
        return Neighbour("", "needs no MAC")
    if isinstance(found and found.kind, Ipvlan) and _is_l3(found):
        return Neighbour("", "needs no MAC")
    text = to_text(address, version)
    entry = place.neighbour(link, version, address)
    known = entry.mac if entry is not None and entry.state in _USABLE else None
    if known and entry is not None and entry.state in ("permanent", "noarp"):
        return Neighbour(known, f"{text} is at {known} (permanent entry)")
    learned = journey.tracker.learned(place.name, link, version, address)
    if learned is not None:
        return Neighbour(learned, f"{text} is at {learned}, which has just asked")
    answers, outside, taught = _ask_once(journey, place, link, version, address, source)
    for one in taught:
        asker = one.asker
        if isinstance(asker, str):
            assert journey.region is not None
            asker = journey.region.fields[asker]
        journey.tracker.learn(one.namespace, one.link, one.version, asker, one.mac)
    if known and entry is not None and (known in answers or entry.state == "reachable"):
        return Neighbour(known, f"{text} is at {known}")
    if answers:
        mac = journey.choices.choose(f"who answers for {text} on {link}", answers, answers)
        return Neighbour(mac, f"{text} is at {mac}")
    if known:
        return Neighbour(known, f"{text} was last seen at {known}")
    if outside:
        return Neighbour(OUTSIDE_MAC, f"{text} is taken to answer outside of what was observed")
    state = f" (last entry: {entry.state})" if entry is not None else ""
    return Unreachable(f"nobody answers for {text} on {link} of {place.name}{state}")


def _is_l3(found: object) -> bool:
    kind = getattr(found, "kind", None)
    return isinstance(kind, Ipvlan) and kind.mode in ("l3", "l3s")


def _ask_once(
    journey: Journey, place: Place, link: str, version: int, address: int, source: int
) -> Asked:
    """Ask, or remember what was answered; what depends on a choice is asked again."""
    view = journey.view
    own = place.has_address(source, version)
    if journey.region is not None:
        return _ask_traced(journey, place, link, version, address, source if own else None)
    key = (place.name, link, version, address, source if own else None, journey.stranger)
    held = view.resolved.get(key)
    if held is not None:
        return held  # type: ignore[return-value]
    before = _so_far(journey)
    with _beside(journey):
        found = _ask(journey, place, link, version, address, source if own else None)
    if _holds_again(journey, before):
        view.resolved[key] = found
    return found


@contextmanager
def _beside(journey: Journey) -> Iterator[None]:
    """Something beside the way: nothing is written down, and the packet's own way goes on."""
    recorder, way, hook = journey.recorder, journey.way, journey.hook
    journey.recorder = Silence()
    try:
        yield
    finally:
        journey.recorder, journey.way, journey.hook = recorder, way, hook


def _so_far(journey: Journey) -> tuple[int, int]:
    """What an answer must not have added to, if it shall hold whoever asks again."""
    return len(journey.choices.made), journey.tracker.walked_beside


def _holds_again(journey: Journey, before: tuple[int, int]) -> bool:
    """Whether an answer may be kept. Beside a question through a tunnel one through the same
    tunnel finds nobody: that is not.
    """
    return _so_far(journey) == before and not journey.carrying


def _ask_traced(
    journey: Journey, place: Place, link: str, version: int, address: int, source: int | None
) -> Asked:
    """Ask for a traced packet, or remember an answer for which the headers are right now."""
    assert journey.region is not None
    asker = source.field if isinstance(source, Traced) else source
    what: object = address.field if isinstance(address, Traced) else address
    if isinstance(address, Derived):
        what = address.pin()
    stranger = journey.stranger
    known: object = stranger
    if stranger is not None and isinstance(stranger.address, Traced):
        known = (*stranger[:3], stranger.address.field)
    key = (place.name, link, version, what, asker, known)
    held = journey.view.resolved_traced.setdefault(key, [])
    for constraints, asked in held:
        if journey.region.apply(constraints):
            return asked  # type: ignore[return-value]
    before = _so_far(journey)
    with _beside(journey), journey.region.recorded() as constraints:
        found = _ask(journey, place, link, version, address, source)
    if len(held) < _MOST_HELD and _holds_again(journey, before):
        held.append((constraints, found))
    return found


def ask_alone(
    view: View, place: Place, link: str, version: int, address: int, source: int | None
) -> tuple[str, ...] | None:
    """The MACs that answer for an address on a link, without anything else going on; None
    where that depends.
    """
    choices = Choices()
    journey = Journey(view, choices, Tracker())
    journey.recorder = Silence()
    asked = _ask(journey, place, link, version, address, source)
    return None if choices.made else tuple(asked.answers)


def _ask(
    journey: Journey, place: Place, link: str, version: int, address: int, source: int | None
) -> Asked:
    view = journey.view
    asking = _request(place, link, version, address, source)
    if asking is None or _is_stopped(journey, asking, "output", link):
        return Asked([], False, [])
    # What leaves by a stranger's link is heard by nobody who was observed.
    strange = journey.stranger is not None and journey.stranger[:2] == (place.name, link)
    owners = () if strange else view.owners_of(version, address)
    wanted = frozenset({*owners, *view.proxying, *view.with_local_prefixes})
    answers: list[str] = []
    outside = False
    learned = []
    for heard in spread(journey, asking, link, wanted):
        if heard.namespace is None:
            stranger = journey.stranger
            here = stranger is not None and stranger[:2] == (heard.frame.namespace, heard.link)
            if stranger is not None and here and _is_his(stranger, address):
                answers.append(STRANGER_MAC)
            else:
                outside = True  # a stranger is not alone on his segment: a router is there too
            continue
        there = view.place(heard.namespace)
        mac = there.mac(heard.link)
        if mac in answers or (heard.namespace, heard.link) == (place.name, link):
            continue
        if not _answers(journey, there, heard, address):
            continue
        if asking.source:
            asker = asking.source.field if isinstance(asking.source, Traced) else asking.source
            learned.append(Learned(there.name, heard.link, version, asker, asking.source_mac))
        if _comes_back(journey, there, heard, place, link, address):
            answers.append(mac)
    return Asked(answers, outside, learned)


def _is_his(stranger: Stranger, address: int) -> bool:
    """Whether a stranger has an address himself. That he writes to himself by way of another
    is left out for traced packets: his source would have to be told apart from every
    destination.
    """
    own = stranger.address
    if isinstance(own, Traced) and isinstance(address, Traced):
        return own.field == address.field
    return own == address


def _request(
    place: Place, link: str, version: int, address: int, source: int | None
) -> Packet | None:
    packet = Packet(place.name, version, 0 if version == 4 else 58)
    packet.source_mac, packet.destination_mac = place.mac(link), BROADCAST
    if version == 4:
        packet.ether_type, packet.operation = "arp", 1
        chosen = source if source is not None else select_ipv4(place, link, address, 253)
        packet.source, packet.destination = chosen or 0, address
        return packet
    packet.icmp_type = SOLICIT
    chosen = source
    if chosen is None or not place.has_address(chosen, 6, link):
        chosen = _link_local(place, link, address)
    if chosen is None:
        return None
    # The solicited-node group of the address (RFC 4291, 2.7.1).
    packet.source = chosen
    number = int(address)
    packet.destination = _SOLICITED | number & 0xFFFFFF
    beginning = "33:33:ff:"
    packet.destination_mac = (
        f"{beginning}{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    )
    if isinstance(address, Traced):
        packet.destination = Derived(packet.destination, address, _SOLICITED, _SOLICITED | 0xFFFFFF)
        packet.destination_mac = DerivedText(packet.destination_mac, address, beginning)
    return packet


def _link_local(place: Place, link: str, address: int) -> int | None:
    """Without an address of the waiting packet on the link its link-local one asks
    (ndisc_solicit); a plane that states none at all leaves them to the kernel.
    """
    for one in place.by_link.get((link, 6), ()):
        if is_link_local(one.number, 6):
            return one.number
    stated = any(one.version == 6 and is_link_local(one.number, 6) for one in place.addresses)
    return None if stated else select_ipv6(place, link, address)


def _is_stopped(journey: Journey, packet: Packet, hook: str, link: str) -> bool:
    """Whether the sender's or receiver's own rules stop a request or an answer."""
    packet.input_link, packet.output_link = (link, None) if hook == "input" else (None, link)
    if packet.ether_type == "arp":
        return pass_hook(journey, packet, "arp", hook) is not None
    hooks: tuple[str, ...] = (
        ("output", "postrouting") if hook == "output" else ("prerouting", "input")
    )
    if hook == "input" and packet.passed_prerouting:
        hooks = ("input",)
    journey.way = None
    return any(pass_hook(journey, packet, "ip6", one) is not None for one in hooks)


def _answers(journey: Journey, place: Place, heard: Heard, address: int) -> bool:
    frame, link = heard.frame, heard.link
    if _is_stopped(journey, frame, "input", link):
        return False
    if frame.version == 6:
        if place.has_address(address, 6, link):
            return True
        proxy = place.stands_in(link, 6, address)
        return proxy and place.either(link, "proxy_ndp", 6) and place.forwards(link, 6)
    admitted = admit(place, frame, link, Choices())
    if isinstance(admitted, Admitted) and admitted.way.type == "local":
        return _may_tell(place, link, address, frame.source)
    if not place.forwards(link, 4):
        return False
    if isinstance(admitted, Admitted) and admitted.way.type == "unicast":
        elsewhere = admitted.way.link != link
        if elsewhere and place.either(link, "proxy_arp"):
            return True
        if elsewhere and place.stands_in(link, 4, address):
            return True
        return not elsewhere and bool(place.number(f"ipv4/conf/{link}/proxy_arp_pvlan"))
    return False


def _may_tell(place: Place, link: str, address: int, asker: int) -> bool:
    """arp_ignore and arp_filter (net/ipv4/arp.c)."""
    ignore = place.highest(link, "arp_ignore")
    here = place.has_address(address, 4, link)
    if ignore in (1, 2) and not here:
        return False
    if ignore == 2 and not any(
        one.number == address and one.network.holds(asker) for one in place.by_link[link, 4]
    ):
        return False
    if ignore == 3 and any(
        one.number == address and one.scope == "host" for one in place.addresses
    ):
        return False
    if ignore >= 4:
        return ignore < 8
    if place.either(link, "arp_filter"):
        from linkspan.analysis.routing import Query, find_way

        back = find_way(place, Query(4, asker, address), Choices())
        return back is not None and back.link == link
    return True


def _comes_back(
    journey: Journey, place: Place, heard: Heard, asker: Place, link: str, address: int
) -> bool:
    """Whether the answer reaches the link that asked."""
    request = heard.frame
    answer = Packet(place.name, request.version, request.protocol)
    answer.source_mac, answer.destination_mac = place.mac(heard.link), request.source_mac
    answer.ether_type = request.ether_type
    answer.source, answer.destination = address, request.source
    if request.version == 4:
        answer.operation = 2
    else:
        answer.icmp_type = ADVERTISE
        answer.destination = request.source or _GROUP
    if _is_stopped(journey, answer, "output", heard.link):
        return False
    for reached in spread(journey, answer, heard.link, frozenset((asker.name,))):
        if (reached.namespace, reached.link) == (asker.name, link):
            return not _is_stopped(journey, reached.frame, "input", link)
    return False


def find_for_stranger(journey: Journey, link: str, version: int, address: int) -> str:
    """The MAC that a stranger on a link's segment sends to: that of who has the address there,
    else that of this host, as to a router.
    """
    stranger = journey.stranger
    assert stranger is not None
    view = journey.view
    place = view.place(stranger.namespace)
    frame = Packet(place.name, version, 0 if version == 4 else 58)
    frame.source, frame.destination = stranger.address, address
    frame.source_mac, frame.destination_mac = STRANGER_MAC, BROADCAST
    if version == 4:
        frame.ether_type, frame.operation = "arp", 1
    else:
        frame.icmp_type = SOLICIT
    wanted = frozenset({*view.owners_of(version, address), *view.proxying})
    with _beside(journey):
        for heard in arrive(journey, frame, link, wanted, 0):
            if heard.namespace is not None:
                there = view.place(heard.namespace)
                if _answers(journey, there, heard, address):
                    return there.mac(heard.link)
    return place.mac(place.bridge_of(link) or link)
