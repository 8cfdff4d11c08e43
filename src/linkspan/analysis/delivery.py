"""The end of the way inside a namespace: a socket, or nobody."""

from __future__ import annotations

from linkspan.analysis.addresses import to_number, to_text, version_of
from linkspan.analysis.flow import PROTOCOL_NAMES, WITH_PORTS, join
from linkspan.analysis.journey import Ending, Journey
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.trace import Disposition
from linkspan.dataplane.sockets import Listener


def deliver(journey: Journey, packet: Packet, link: str) -> Ending:
    """Give a packet that all rules let through to its socket. `link` is where it came in."""
    if journey.expected is not None:
        return _deliver_expected(journey, packet)
    place = journey.place(packet)
    if packet.protocol not in WITH_PORTS:
        if packet.protocol in (1, 58):
            return journey.end(Disposition.DELIVERED, packet, f"{place.name} answers the echo")
        return journey.end(
            Disposition.UNKNOWN, packet, f"who takes protocol {packet.protocol} is not known"
        )
    where = join(to_text(packet.destination, packet.version), packet.destination_port)
    protocol = PROTOCOL_NAMES.get(packet.protocol, str(packet.protocol))
    if packet.anycast and packet.protocol == 6:  # tcp_v6_conn_request, tcp_v6_send_reset
        return journey.end(
            Disposition.SWALLOWED, packet,
            f"{where} is an anycast address of {place.name}: the kernel takes no TCP there",
        )  # fmt: skip
    listener = find_listener(place, packet, link)
    if listener is not None:
        journey.listener = listener
        _tell_from_its_answer(journey, packet)
        return journey.end(
            Disposition.DELIVERED, packet,
            f"delivered to {describe_listener(listener)} in {place.name}", listener.processes,
        )  # fmt: skip
    if not journey.view.sockets_known:
        journey.misunderstood("which sockets listen was not observed")
        return journey.end(Disposition.DELIVERED, packet, f"arrives at {where} in {place.name}")
    if place.name in journey.view.planned:
        journey.misunderstood(
            f"which sockets will listen in {place.name}, which is only planned, is not known"
        )
        return journey.end(Disposition.DELIVERED, packet, f"arrives at {where} in {place.name}")
    answer = "the sender gets a reset" if packet.protocol == 6 else "the sender gets an ICMP error"
    return journey.end(
        Disposition.REFUSED, packet,
        f"nobody listens on {where}/{protocol} in {place.name}: {answer}",
    )  # fmt: skip


def _tell_from_its_answer(journey: Journey, packet: Packet) -> None:
    """A traced packet that comes from its own address is its own answer when it has the same
    port twice: others are told apart from it.
    """
    if journey.region is not None and int(packet.source) == int(packet.destination):
        _ = packet.source_port == packet.destination_port


def _deliver_expected(journey: Journey, packet: Packet) -> Ending:
    """An answer goes to the socket that waits for it, when it has the addresses it must have."""
    expected = journey.expected
    assert expected is not None
    if expected.namespace == packet.namespace and expected.ends == packet.ends:
        return journey.end(
            Disposition.DELIVERED, packet, f"reaches the socket that waits in {packet.namespace}"
        )
    return journey.end(
        Disposition.WRONG_ADDRESS, packet,
        f"{packet.flow} arrives in {packet.namespace}, where no socket waits for it",
    )  # fmt: skip


def find_listener(place: Place, packet: Packet, link: str) -> Listener | None:
    """The socket that a packet goes to: bound to the address and link before any."""
    name = PROTOCOL_NAMES.get(packet.protocol, "")
    best: Listener | None = None
    best_score = -1
    for listener in place.listeners_at(name, packet.destination_port):
        if listener.link is not None and listener.link != link:
            continue
        version = version_of(listener.address)
        number = to_number(listener.address)
        if number == 0:
            if version != packet.version and not (version == 6 and listener.dual_stack):
                continue
        elif version != packet.version or packet.destination != number:
            mapped = version == 6 and packet.version == 4 and number >> 32 == 0xFFFF
            if not mapped or packet.destination != number & 0xFFFFFFFF:
                continue
        score = 2 * (number != 0) + 4 * (listener.link is not None) + (version == packet.version)
        if score > best_score:
            best, best_score = listener, score
    return best


def describe_listener(listener: Listener) -> str:
    """A socket as a person knows it: its program, and what it is bound to."""
    bound = f"{join(listener.address, listener.port)}/{listener.protocol}"
    if not listener.processes:
        return bound
    process = listener.processes[0]
    return f"{process.name} (pid {process.pid}) on {bound}"
