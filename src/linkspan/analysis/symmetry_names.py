"""Whose each name, address and number of a plane is, for comparing namespaces.

A link, MAC, address or published port that belongs to one namespace alone is an identity: it
may be another one in a namespace that is alike. Everything else has to be the same.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from linkspan.analysis.addresses import (
    WIDTH,
    Prefix,
    is_link_local,
    is_loopback,
    to_number,
    to_prefix,
)
from linkspan.analysis.flow import EPHEMERAL
from linkspan.analysis.place import OwnAddress
from linkspan.analysis.symmetry_networks import Network, bridge_with_mac
from linkspan.analysis.symmetry_terms import Mine, PublishedPort, owners_of
from linkspan.analysis.view import View
from linkspan.dataplane.links import Ipvlan, Loopback, Veth
from linkspan.dataplane.objects import HOST, Link

_NO_MAC = ("", "00:00:00:00:00:00")
_WELL_KNOWN = (
    "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "10.0.0.0/8",
    "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fe80::/10",
    "ff00::/8", "fc00::/7", "2002::/16", "2001::/32", "::/128", "::1/128",
)  # fmt: skip
"""Prefixes that the walk itself, or the choice of what to ask, tells apart."""
EVERYONES_PORTS = frozenset((EPHEMERAL, EPHEMERAL + 1))
"""Source ports of the flows that are walked, and what translation makes of a taken one."""
_SOLICITED = to_prefix("ff02::1:ff00:0/104")


_LAST_PREFIX = Prefix(6, 1 << WIDTH[6], WIDTH[6])
_NUMERIC = re.compile(r"[0-9a-fA-F:.]*[.:][0-9a-fA-F:.]*(/[0-9]+)?(-[0-9a-fA-F:.]+)?")
_MAC = re.compile("[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Names:
    """The identities of a plane, and the boundaries that its facts draw among addresses.

    `containers` are the namespaces that are compared with each other, and so are `networks`.
    """

    def __init__(
        self, view: View, containers: Iterable[str], networks: Iterable[Network] = ()
    ) -> None:
        self.view = view
        self.containers = frozenset(containers)
        self.networks = {one.owner: one for one in networks}
        self.network_of = {name: one.owner for one in networks for name in one.members}
        self.subnets = {
            subnet: Mine(one.owner, ("subnet", place))
            for one in networks
            for place, subnet in enumerate(one.subnets)
        }
        self._starts = sorted((one.version, one.network, one) for one in self.subnets)
        self._first = {own: subnet.network for subnet, own in self.subnets.items()}
        self.apart: set[str] = set()
        """Networks that are like no other."""
        self.links: dict[tuple[str, str], Mine] = {}
        self.macs: dict[str, Mine] = {}
        self.addresses: dict[tuple[int, int], Mine] = {}
        self.unlike: set[str] = set()
        """Namespaces that are like no other: what they have is also had by somebody else."""
        self.all_unlike = False
        """Something computes with addresses, or cannot be taken apart."""
        self.mentioned: set[tuple[int, int]] = set()
        """Single addresses that rules, sets and gateways name."""
        self.masks: set[int] = set()
        self.ports_are_masked = False
        self.everyones_ports: set[int] = set(EVERYONES_PORTS)
        """Ports that mean the same for everybody: listeners', targets of translations."""
        self.private_ports: dict[str, dict[int, Mine]] = {}
        """Ports of a namespace's own loopback, such as its resolver's."""
        self.patterns: set[tuple[str, str]] = set()
        """Beginnings of link names that rules of a namespace ask for."""
        self.ranges: list[tuple[int, int, int]] = []
        """Version, first and last of what is no prefix: a translation may take any of them."""
        self._cuts: dict[int, set[int]] = {4: set(), 6: set()}
        self._sorted_cuts: dict[int, list[int]] = {}
        self._port_cuts: set[int] = set()
        self._seen_spans: dict[str, Mine | None] = {}
        for text in _WELL_KNOWN:
            self.cut(text)
        self._name_links()
        self._name_macs()
        self._name_addresses()

    # What belongs to whom -------------------------------------------------------------

    def _name_links(self) -> None:
        """A cable's end at the host, or at a bridge, belongs to the namespace behind it."""
        view = self.view
        for namespace in view.namespaces:
            for link in view.place(namespace).links.values():
                if not isinstance(link.kind, Veth) or not (link.master or namespace == HOST):
                    continue
                peer = view.peer(link)
                if peer is not None and peer.namespace in self.containers and (
                    peer.namespace != namespace
                ):  # fmt: skip
                    self.links[namespace, link.name] = Mine(peer.namespace, ("port", peer.name))
        for owner, one in self.networks.items():
            self.links[HOST, one.bridge] = Mine(owner, "bridge")

    def _name_macs(self) -> None:
        holders: dict[str, list[Link]] = {}
        for namespace in self.view.namespaces:
            for link in self.view.place(namespace).links.values():
                if link.mac not in _NO_MAC and not isinstance(link.kind, (Ipvlan, Loopback)):
                    holders.setdefault(link.mac or "", []).append(link)
        bridges = frozenset(one.bridge for one in self.networks.values())
        for mac, links in holders.items():
            bridge = bridge_with_mac(links, bridges) if bridges else None
            if bridge is not None:
                self.macs[mac] = Mine(self.links[HOST, bridge].owner, "mac")
                continue
            namespaces = {link.namespace for link in links}
            if len(namespaces) > 1:
                self.unlike |= namespaces & self.containers
                continue
            first = links[0]
            if first.namespace in self.containers:
                self.macs[mac] = Mine(first.namespace, ("mac", first.name))
            elif len(links) == 1:
                port = self.links.get((first.namespace, first.name))
                if port is not None:
                    self.macs[mac] = Mine(port.owner, ("mac of", port.role))

    def _name_addresses(self) -> None:
        for (version, number), owners in self.view.owners.items():
            if is_loopback(number, version):
                continue
            namespaces = set(owners)
            if len(namespaces) > 1:
                self.unlike |= namespaces & self.containers
        for namespace in self.containers:
            for place, one in enumerate(self.view.place(namespace).addresses):
                key = (one.version, one.number)
                if is_loopback(one.number, one.version):
                    continue
                if len(set(self.view.owners[key])) == 1:
                    self.addresses.setdefault(key, Mine(namespace, ("address", one.link, place)))

        for owner, network in self.networks.items():
            own = [one for one in self.view.place(HOST).addresses if one.link == network.bridge]
            for place, one in enumerate(own):
                key = (one.version, one.number)
                if self.view.owners[key] == [HOST] and not is_loopback(one.number, one.version):
                    self.addresses.setdefault(key, Mine(owner, ("address", place)))

    # Looking up -----------------------------------------------------------------------

    def link(self, namespace: str, name: str | None) -> Any:
        """A link by where it is: its identity, or where it is when nobody owns it."""
        if name is None:
            return None
        found = self.links.get((namespace, name))
        if found is not None:
            return found
        return (self.namespace(namespace), name)

    def namespace(self, name: str) -> Any:
        """A namespace: an identity when it is compared with others."""
        return Mine(name, "namespace") if name in self.containers else name

    def address(self, text: str) -> Any:
        """An address, prefix or range as text: identity, or the text. Draws boundaries."""
        plain = text.removesuffix("/32") if ":" not in text else text.removesuffix("/128")
        if "/" in plain or "-" in plain:
            return self.cut(plain) or plain
        try:
            key = (6 if ":" in plain else 4, to_number(plain))
        except ValueError:
            return text
        return self.number(*key)

    def number(self, version: int, number: int) -> Any:
        """An address by its number."""
        key = (version, number)
        self.mentioned.add(key)
        if version == 6 and _SOLICITED.holds(number):
            self.all_unlike = True
        return self.known(*key)

    def known(self, version: int, number: int) -> Any:
        """An address by its number, which may be one that nobody has on somebody's subnet."""
        found = self.addresses.get((version, number))
        if found is not None or not self.subnets:
            return (version, number) if found is None else found
        subnet = self.subnet_of(version, number)
        if subnet is None:
            return (version, number)
        return Mine(subnet.owner, (*subnet.role, "at", number - self._first[subnet]))

    def whose(self, term: Any) -> set[str]:
        """Whom a term is about: the namespaces that it names, and the networks of which it
        names none.
        """
        found = owners_of(term)
        if len(found) > 1 and self.networks:
            found -= {self.network_of[name] for name in found if name in self.network_of}
        return found

    def seen_by(self, term: Any, owner: str) -> Any:
        """A term as one namespace or network sees it: what is its own loses its name, ports all
        names.
        """
        kind = type(term)
        if kind is Mine:
            if term.owner == owner:
                return (None, term.role)
            if term.owner == self.network_of.get(owner):
                return ("net", term.role)
            return ("of", term.owner, term.role)
        if kind is PublishedPort:
            return "port"
        if kind is tuple:
            return tuple([self.seen_by(part, owner) for part in term])
        return term

    def text(self, namespace: str, text: str) -> Any:
        """Text of unknown meaning in a rule: an address, MAC or link of this namespace."""
        found = self.links.get((namespace, text))
        if found is not None:
            return found
        if text.endswith("*"):
            self.patterns.add((namespace, text[:-1]))
            return text
        if not _NUMERIC.fullmatch(text):
            return text
        lowered = text.lower()
        if _MAC.fullmatch(lowered):
            if lowered.startswith("33:33:ff"):
                self.all_unlike = True
            return self.macs.get(lowered, lowered)
        return self.address(text)

    def inner_port(self, namespace: str, number: int) -> Any:
        """A port that something inside a namespace names."""
        found = self.private_ports.get(namespace, {}).get(number)
        if found is None:
            self.everyones_ports.add(number)
            return number
        return found

    # Boundaries -----------------------------------------------------------------------

    def cut(self, text: str) -> Mine | None:
        """What is inside a prefix or range is not like what is outside. Of a network's own subnet
        its identity.
        """
        if text in self._seen_spans:
            return self._seen_spans[text]
        self._seen_spans[text] = None
        try:
            if "-" in text:
                first, _, last = text.partition("-")
                version = 6 if ":" in text else 4
                own = self._subnet_of(version, to_number(first), to_number(last))
                if own is None:
                    self.cut_range(version, to_number(first), to_number(last))
                self._seen_spans[text] = own
                return own
            else:
                prefix = to_prefix(text)
                if prefix in self.subnets:
                    own = self._seen_spans[text] = self.subnets[prefix]
                    return own
                if prefix.version == 6 and prefix.length >= 104 and _SOLICITED.holds(
                    prefix.network
                ) and prefix != _SOLICITED:  # fmt: skip
                    self.all_unlike = True
                self._cuts[prefix.version] |= {prefix.network, prefix.last + 1}
        except ValueError:
            self.all_unlike = True
        return None

    def _subnet_of(self, version: int, first: int, last: int) -> Mine | None:
        for subnet, own in self.subnets.items():
            if (subnet.version, subnet.network, subnet.last) == (version, first, last):
                self.ranges.append((version, first, last))
                return own
        return None

    def is_crossed(self, network: Network) -> bool:
        """Whether a boundary runs through a network's subnet."""
        for subnet in network.subnets:
            cuts = self._boundaries(subnet.version)
            if bisect_right(cuts, subnet.network) != bisect_right(cuts, subnet.last):
                return True
        return False

    def _boundaries(self, version: int) -> list[int]:
        cuts = self._sorted_cuts.get(version)
        if cuts is None:
            cuts = self._sorted_cuts[version] = sorted(self._cuts[version])
        return cuts

    def subnet_of(self, version: int, number: int) -> Mine | None:
        """The subnet of a network that an address lies in."""
        place = bisect_right(self._starts, (version, number, _LAST_PREFIX)) - 1
        if place >= 0 and self._starts[place][0] == version:
            subnet = self._starts[place][2]
            return self.subnets[subnet] if subnet.holds(number) else None
        return None

    def cut_range(self, version: int, first: int, last: int) -> None:
        """The same by numbers."""
        self.ranges.append((version, first, last))
        self._cuts[version] |= {first, last + 1}
        if version == 6 and first <= _SOLICITED.last and last >= _SOLICITED.network:
            self.all_unlike = True

    def cut_ports(self, first: int, last: int) -> None:
        """The same among ports."""
        self._port_cuts |= {first, last + 1}

    def where(self, version: int, number: int) -> tuple[int, ...]:
        """Between which boundaries an address lies, and its bits that somebody masks out."""
        cuts = self._boundaries(version)
        return (bisect_right(cuts, number), *(number & mask for mask in sorted(self.masks)))

    def where_port(self, number: int) -> int:
        """Between which boundaries a port lies."""
        return bisect_right(sorted(self._port_cuts), number)

    def matched_names(self, namespace: str, name: str) -> frozenset[str]:
        """Which patterns of a namespace's rules a link's name fits."""
        if not self.patterns:
            return frozenset()
        return frozenset(
            start for where, start in self.patterns if where == namespace and name.startswith(start)
        )

    def cut_by_length(self) -> None:
        """Where a namespace can send from several IPv6 addresses the longest common prefix
        decides (RFC 6724, rule 8), also beyond the networks that routes name.
        """
        for namespace in self.view.namespaces:
            own = [
                one
                for one in self.view.place(namespace).addresses
                if one.version == 6 and one.scope == "global"
            ]
            if len(own) < 2 or len({one.network.length for one in own}) < 2:
                continue
            least = min(one.network.length for one in own)
            for one in own:
                for length in range(least + 1, one.network.length + 1):
                    free = WIDTH[6] - length
                    first = one.number >> free << free
                    self._cuts[6] |= {first, first + (1 << free)}
        if self.networks:
            self._cut_by_bits()

    def _cut_by_bits(self) -> None:
        """Where somebody has several IPv6 addresses to send from, the bits that the destination
        has in common with each: networks are alike only if these are.
        """
        for namespace in self.view.namespaces:
            place = self.view.place(namespace)
            held: dict[str, list[OwnAddress]] = {}
            for one in place.addresses:
                if one.version == 6 and one.scope == "global" and not is_link_local(one.number, 6):
                    held.setdefault(one.link if namespace == HOST else "", []).append(one)
            for one in (one for rows in held.values() if len(rows) > 1 for one in rows):
                for length in range(1, one.network.length):
                    free = WIDTH[6] - length
                    first = one.number >> free << free
                    self._cuts[6] |= {first, first + (1 << free)}
