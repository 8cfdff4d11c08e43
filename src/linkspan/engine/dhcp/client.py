"""One DHCP client: what it does when a message comes or time has passed (RFC 2131, section 4.4).

    selecting --offer--> requesting --ack--> bound --T1--> renewing --T2--> rebinding
        ^                                      ^---------ack---------+----------+
        +--- nak, end of the lease, an address that somebody else has ----------+

It reads no clock and no socket: whoever runs it gives the time (seconds since 1970, so that a
lease means the same after a restart) and the messages, and carries out the commands.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable

import msgspec

from linkspan.drivers.records import DhcpLease
from linkspan.engine.dhcp import messages as dhcp
from linkspan.engine.dhcp.frames import EVERYBODY, EVERYWHERE
from linkspan.engine.dhcp.messages import Message

FIRST_WAIT, LONGEST_WAIT = 1.0, 64.0
"""Seconds before a message is repeated; each time twice as long. RFC 2131 begins with 4, but a
container's start waits for it."""
MOST_REQUESTS = 4
"""Requests for an offered address without an answer before any other offer will do."""
LEAST_RENEWAL_WAIT = 60.0
"""Seconds between two requests for an extension (section 4.4.5), less on very short leases."""
AFTER_DECLINE = 10.0
"""Seconds until the next attempt once two addresses in a row were others' (section 3.1)."""
_WANTED = bytes(
    (
        dhcp.SUBNET_MASK,
        dhcp.ROUTER,
        dhcp.DNS_SERVERS,
        dhcp.DOMAIN_NAME,
        dhcp.LEASE_TIME,
        dhcp.SERVER_IDENTIFIER,
        dhcp.RENEWAL_TIME,
        dhcp.REBINDING_TIME,
    )
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. A server knows its clients by `client_id`, where they state one."""

    mac: str
    client_id: bytes
    hostname: str = ""
    broadcast: bool = False
    """Answers must go to everybody: several clients share the MAC, told apart by address."""


class Send(msgspec.Struct, frozen=True):
    """Send a message, to everybody or to one host."""

    message: Message
    source: str = dhcp.NO_ADDRESS
    destination: str = EVERYWHERE
    destination_mac: str = EVERYBODY


class Leased(msgspec.Struct, frozen=True):
    """A lease was granted or extended. An address that is new is tried first, if at all:
    `decline` if it is somebody else's.
    """

    lease: DhcpLease


class Lost(msgspec.Struct, frozen=True):
    """The address must not be used any more."""

    lease: DhcpLease
    why: str


Command = Send | Leased | Lost


class Client:
    """A client with a lease from before, or none."""

    def __init__(
        self,
        identity: Identity,
        lease: DhcpLease | None = None,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.identity = identity
        self.lease = lease
        self.phase = "stopped"
        self.wake_at = 0.0
        """When `wake` shall be called; infinite for never."""
        self._chance = chance
        self._transaction = 0
        self._since = self._attempt = 0.0
        self._offer: Message | None = None
        self._offer_mac = ""
        self._declined = self._refused = 0
        self._said: dict[str, str] = {}

    def explain(self) -> str:
        """Who answered what since the last lease."""
        if not self._said:
            return "no DHCP server answered"
        return "; ".join(f"DHCP server {server} {what}" for server, what in self._said.items())

    # Events ---------------------------------------------------------------------------

    def begin(self, now: float) -> list[Command]:
        """Start, or go on with the lease from before."""
        if self.lease is None:
            return self._discover(now)
        if _is_over(self.lease, now):
            return self._lose(now, "it ended while nobody could extend it")
        self._bind(self.lease)
        return []

    def wake(self, now: float) -> list[Command]:
        """Time has passed."""
        if now < self.wake_at:
            return []
        if self.lease is not None and _is_over(self.lease, now):
            return self._lose(now, f"it ended and {self.explain()}")
        match self.phase:
            case "selecting":
                self._wait(now)
                return [self._discovery(now)]
            case "requesting" if self._attempt < MOST_REQUESTS:
                self._wait(now)
                return [self._selection(now)]
            case "bound" | "renewing" | "rebinding":
                return self._extend(now)
            case _:
                return self._discover(now)

    def receive(self, message: Message, sender_mac: str, now: float) -> list[Command]:
        """A message came, from a frame of this MAC. Others' are passed over."""
        server = next(iter(message.addresses(dhcp.SERVER_IDENTIFIER)), None)
        ours = message.transaction == self._transaction and message.mac == self.identity.mac
        if message.from_client or not ours or server is None:
            return []
        extending = self.phase in ("renewing", "rebinding")
        match message.type:
            case dhcp.OFFER if self.phase == "selecting":
                return self._take_offer(message, server, sender_mac, now)
            case dhcp.ACK if self.phase == "requesting" or extending:
                return self._take_grant(message, server, sender_mac, now)
            case dhcp.NAK if self.phase == "requesting" and server == self._offerer():
                self._note(server, f"took its offer back{_reason(message)}")
                return self._rest(now)
            case dhcp.NAK if extending:
                what = f"refused to extend it{_reason(message)}"
                self._note(server, what)
                return self._lose(now, f"DHCP server {server} {what}")
        return []

    def decline(self, now: float, holder: str) -> list[Command]:
        """The address that was granted is in use by another host, `holder`."""
        lease = self.lease
        assert lease is not None
        self._note(lease.server, f"gave {lease.address}, which {holder} has already")
        options = {
            dhcp.REQUESTED_ADDRESS: _packed(lease.address),
            dhcp.SERVER_IDENTIFIER: _packed(lease.server),
        }
        self._begin_transaction(now)
        told = Send(self._message(dhcp.DECLINE, now, options, short=True))
        self.lease = None
        self._declined += 1
        self.phase = "resting"
        self.wake_at = now if self._declined == 1 else now + AFTER_DECLINE
        return [told]

    def release(self, now: float) -> list[Command]:
        """Give the address back and end."""
        lease, self.lease = self.lease, None
        self.phase, self.wake_at = "stopped", float("inf")
        if lease is None or _is_over(lease, now):
            return []
        self._begin_transaction(now)
        options = {dhcp.SERVER_IDENTIFIER: _packed(lease.server)}
        message = self._message(
            dhcp.RELEASE, now, options, short=True, client_address=_bare(lease.address)
        )
        return [_to_server(message, lease)]

    # What follows ---------------------------------------------------------------------

    def _discover(self, now: float) -> list[Command]:
        self.phase, self._offer = "selecting", None
        self._begin_transaction(now)
        self._wait(now)
        return [self._discovery(now)]

    def _rest(self, now: float) -> list[Command]:
        """Begin anew after a while: a server that offers and refuses would do so for ever."""
        wait = min(FIRST_WAIT * 2**self._refused, LONGEST_WAIT)
        self._refused += 1
        self.phase, self.wake_at = "resting", now + wait * self._chance(0.9, 1.1)
        return []

    def _take_offer(self, offer: Message, server: str, mac: str, now: float) -> list[Command]:
        if offer.your_address == dhcp.NO_ADDRESS:
            return []
        self._note(server, f"offered {offer.your_address}, but did not confirm it")
        self.phase, self._offer, self._offer_mac = "requesting", offer, mac
        self._attempt = 0
        self._wait(now)
        return [self._selection(now)]

    def _take_grant(self, grant: Message, server: str, mac: str, now: float) -> list[Command]:
        lease = read_lease(grant, server, mac, self._since)
        if lease is None or _is_over(lease, now):
            self._note(server, "granted a lease without an address or a time")
            return []
        self._bind(lease)
        self._said.clear()
        self._refused = 0
        return [Leased(lease)]

    def _bind(self, lease: DhcpLease) -> None:
        self.lease, self.phase = lease, "bound"
        self.wake_at = lease.renew_at if lease.renew_at is not None else float("inf")

    def _extend(self, now: float) -> list[Command]:
        lease = self.lease
        assert lease is not None
        assert lease.rebind_at is not None
        assert lease.expires is not None
        if self.phase == "bound":
            self._begin_transaction(now)
        late = now >= lease.rebind_at
        self.phase = "rebinding" if late else "renewing"
        self._since = now  # what is granted now counts from this request
        end = lease.expires if late else lease.rebind_at
        least = min(LEAST_RENEWAL_WAIT, (lease.expires - lease.acquired) / 16)
        self.wake_at = min(end, now + max((end - now) / 2, least))
        message = self._message(dhcp.REQUEST, now, {}, client_address=_bare(lease.address))
        if late:
            return [Send(message, source=_bare(lease.address))]
        return [_to_server(message, lease)]

    def _lose(self, now: float, why: str) -> list[Command]:
        lease, self.lease = self.lease, None
        assert lease is not None
        return [Lost(lease, why), *self._discover(now)]

    # Messages -------------------------------------------------------------------------

    def _discovery(self, now: float) -> Send:
        return Send(self._message(dhcp.DISCOVER, now, {}))

    def _selection(self, now: float) -> Send:
        assert self._offer is not None
        options = {
            dhcp.REQUESTED_ADDRESS: _packed(self._offer.your_address),
            dhcp.SERVER_IDENTIFIER: self._offer.options[dhcp.SERVER_IDENTIFIER],
        }
        return Send(self._message(dhcp.REQUEST, now, options))

    def _message(
        self,
        kind: int,
        now: float,
        options: dict[int, bytes],
        *,
        short: bool = False,
        client_address: str = dhcp.NO_ADDRESS,
    ) -> Message:
        said = {dhcp.MESSAGE_TYPE: bytes((kind,)), dhcp.CLIENT_IDENTIFIER: self.identity.client_id}
        said |= options
        if not short:
            if self.identity.hostname:
                said[dhcp.HOST_NAME] = self.identity.hostname.encode("ascii", "replace")[:63]
            said[dhcp.WANTED_OPTIONS] = _WANTED
        return Message(
            transaction=self._transaction,
            mac=self.identity.mac,
            seconds=max(0, int(now - self._since)),
            # Who has the address already gets answers there.
            broadcast=self.identity.broadcast and client_address == dhcp.NO_ADDRESS,
            client_address=client_address,
            options=said,
        )

    def _begin_transaction(self, now: float) -> None:
        self._transaction = int(self._chance(0, 0xFFFFFFFF))
        self._since, self._attempt = now, 0

    def _wait(self, now: float) -> None:
        wait = min(FIRST_WAIT * 2**self._attempt, LONGEST_WAIT)
        self._attempt += 1
        self.wake_at = now + wait * self._chance(0.9, 1.1)

    def _offerer(self) -> str | None:
        offer = self._offer
        return next(iter(offer.addresses(dhcp.SERVER_IDENTIFIER)), None) if offer else None

    def _note(self, server: str, what: str) -> None:
        self._said[server] = what


def read_lease(grant: Message, server: str, server_mac: str, asked: float) -> DhcpLease | None:
    """The lease that a server granted on a request of a time; None when it states none."""
    seconds = grant.number(dhcp.LEASE_TIME)
    if grant.your_address == dhcp.NO_ADDRESS or not seconds:
        return None
    mask = next(iter(grant.addresses(dhcp.SUBNET_MASK)), None)
    renew = grant.number(dhcp.RENEWAL_TIME) or seconds / 2
    rebind = grant.number(dhcp.REBINDING_TIME) or seconds * 7 / 8
    if not renew < rebind < seconds:
        renew, rebind = seconds / 2, seconds * 7 / 8  # section 4.4.5
    ends = seconds != dhcp.FOREVER
    return DhcpLease(
        address=f"{grant.your_address}/{_prefix_length(grant.your_address, mask)}",
        server=server,
        server_mac=server_mac,
        acquired=asked,
        renew_at=asked + renew if ends else None,
        rebind_at=asked + rebind if ends else None,
        expires=asked + seconds if ends else None,
        router=next(iter(grant.addresses(dhcp.ROUTER)), None),
        dns=grant.addresses(dhcp.DNS_SERVERS),
        domain=grant.text(dhcp.DOMAIN_NAME),
    )


def _prefix_length(address: str, mask: str | None) -> int:
    try:
        return ipaddress.IPv4Network(f"{address}/{mask}", strict=False).prefixlen if mask else 24
    except ValueError:
        return 24


def _is_over(lease: DhcpLease, now: float) -> bool:
    return lease.expires is not None and now >= lease.expires


def _to_server(message: Message, lease: DhcpLease) -> Send:
    return Send(message, _bare(lease.address), lease.server, lease.server_mac)


def _reason(message: Message) -> str:
    text = message.text(dhcp.MESSAGE)
    return f" ({text})" if text else ""


def _bare(address: str) -> str:
    return address.split("/")[0]


def _packed(address: str) -> bytes:
    return ipaddress.IPv4Address(_bare(address)).packed
