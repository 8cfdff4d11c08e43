"""Hosts as other network managers left them, as data, and a reader that makes planes of them.

Each JSON file is one host or cluster: `places` has a namespace's answers by the name of the
question (`ip -j -d link` is "link", `nft -j list ruleset` "nft", ...), `published` what Docker
says of its containers. All were taken on Linux 6.18 from real runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from linkspan.dataplane import (
    Address,
    Bridge,
    BridgePort,
    DataPlane,
    FdbEntry,
    Link,
    Listener,
    Loopback,
    Namespace,
    Neighbour,
    Object,
    Process,
    Route,
    Rule,
    Sysctl,
    Table,
    Veth,
    Vxlan,
)
from linkspan.dataplane.rules import FirewallRule, Opaque
from linkspan.kernel.netfilter import iptables, nftjson

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
_TABLES = {"local": 255, "main": 254, "default": 253}


class Capture:
    """One captured host: its objects, and what Docker published there."""

    def __init__(self, name: str) -> None:
        held = json.loads((FOLDER / f"{name}.json").read_text())
        self.places: dict[str, dict[str, Any]] = held["places"]
        self.published: dict[str, Any] = held.get("published", {})
        self.objects: list[Object] = [
            item for place in self.places for item in self._read(place)
        ]  # fmt: skip

    def plane(self, *more: Object) -> DataPlane:
        """The captured objects with some more; those with an identity that is taken replace."""
        held = {item.key: item for item in self.objects}
        return DataPlane((held | {item.key: item for item in more}).values())

    def rules(self) -> Iterator[tuple[str, str, FirewallRule]]:
        """Every rule of every table, with its namespace and the table's name."""
        for table in self.objects:
            if isinstance(table, Table):
                for chain in table.chains:
                    for rule in chain.rules:
                        yield table.namespace, f"{table.family} {table.name} {chain.name}", rule

    def not_understood(self) -> list[str]:
        """Texts of the rules that the readers could not read in full."""
        return [
            f"{namespace}: {chain}: {rule.text}: {one.text}"
            for namespace, chain, rule in self.rules()
            for one in rule.statements
            if isinstance(one, Opaque)
        ]

    def relays(self) -> list[Listener]:
        """The docker-proxy processes behind the sockets of published ports; the network "back" is
        internal, and no port is published on it.
        """
        found = []
        for container in self.published.values():
            outward = {name: at for name, at in container["addresses"].items() if name != "back"}
            address = next(iter(outward.values()), "")
            for words, ends in (container["ports"] or {}).items():
                port, _, protocol = words.partition("/")
                for end in ends or ():
                    command = (
                        "docker-proxy", "-proto", protocol, "-host-ip", end["HostIp"],
                        "-host-port", end["HostPort"], "-container-ip", address,
                        "-container-port", port,
                    )  # fmt: skip
                    found.append(
                        Listener(
                            protocol=protocol, address=end["HostIp"],
                            port=int(end["HostPort"] or 0),
                            processes=(Process(1, "docker-proxy", command),),
                        )
                    )  # fmt: skip
        taken = {item.key for item in self.objects}
        return [one for one in found if one.key in taken]

    # Reading --------------------------------------------------------------------------

    def _read(self, place: str) -> Iterator[Object]:
        files = self.places[place]
        yield Namespace(namespace=place)
        for row in files["link"]:
            yield self._link(place, row)
        for row in files["addr"]:
            for one in row["addr_info"]:
                yield Address(
                    namespace=place, link=row["ifname"], scope=one["scope"],
                    address=f"{one['local']}/{one['prefixlen']}",
                )  # fmt: skip
        for question, anything in (("route", "0.0.0.0/0"), ("route6", "::/0")):
            for row in files.get(question, ()):
                yield _route(place, row, anything)
        for family in ("ip", "ip6"):
            for row in files.get("rule", ()):
                yield Rule(
                    namespace=place, family=family, priority=row["priority"],
                    table=_TABLES[row["table"]],
                )  # fmt: skip
        for row in files["neigh"]:
            yield Neighbour(
                namespace=place, link=row["dev"], address=row["dst"], mac=row.get("lladdr"),
                state=row["state"][0].lower(),
            )  # fmt: skip
        for row in files.get("fdb", ()):
            yield FdbEntry(
                namespace=place, link=row["ifname"], mac=row["mac"], remote=row.get("dst"),
                permanent=row.get("state") == "permanent", own="self" in row["flags"],
            )  # fmt: skip
        yield from self._settings(place)
        yield from self._sockets(place)
        yield from self._firewall(place)

    def _link(self, place: str, row: dict[str, Any]) -> Link:
        info = row.get("linkinfo", {})
        data, port = info.get("info_data", {}), info.get("info_slave_data", {})
        kind: Any = Loopback() if row["ifname"] == "lo" else None
        match info.get("info_kind"):
            case "bridge":
                kind = Bridge(
                    netfilter_ip=bool(data.get("nf_call_iptables")),
                    netfilter_ip6=bool(data.get("nf_call_ip6tables")),
                )
            case "vxlan":
                kind = Vxlan(
                    vni=data["id"],
                    local=data["local"],
                    port=data["port"],
                    parent=data["link"],
                    learning=data["learning"],
                )
            case "veth":
                kind = self._veth(place, row)
        flags = {"hairpin", "isolated", "learning", "flood"}
        state = {"forwarding": 3}.get(port.get("state"), 3)
        return Link(
            namespace=place, name=row["ifname"], kind=kind, mac=row["address"], mtu=row["mtu"],
            up="UP" in row["flags"], master=row.get("master", ""), index=row["ifindex"],
            port=BridgePort(state=state, **{name: bool(port[name]) for name in flags & set(port)})
            if port else None,
        )  # fmt: skip

    def _veth(self, place: str, row: dict[str, Any]) -> Veth:
        """The other end is the link with the same two numbers, the other way round."""
        for other, files in self.places.items():
            for end in files["link"]:
                same = (end["ifindex"], end.get("link_index"))
                if other != place and same == (row.get("link_index"), row["ifindex"]):
                    if "host" in (place, other):
                        return Veth(peer_name=end["ifname"], peer_namespace=other)
        return Veth()

    def _settings(self, place: str) -> Iterator[Sysctl]:
        found = self.places[place]["sysctl"]
        for name, value in found.items():
            words = name.removeprefix("net.").split(".")
            if "conf" in words:  # a link's name may have dots
                words = [*words[:2], ".".join(words[2:-1]), words[-1]]
            yield Sysctl(namespace=place, path="/".join(words), value=value)
        if found.get("net.ipv4.ip_forward") == "1":
            for row in self.places[place]["link"]:
                path = f"ipv4/conf/{row['ifname']}/forwarding"
                yield Sysctl(namespace=place, path=path, value="1")

    def _sockets(self, place: str) -> Iterator[Listener]:
        for line in self.places[place].get("listening", ()):
            protocol, _, _, _, end, *_ = line.split()
            address, _, port = end.rpartition(":")
            yield Listener(
                namespace=place, protocol=protocol, address=address.strip("[]"), port=int(port)
            )

    def _firewall(self, place: str) -> Iterator[Object]:
        files = self.places[place]
        found = nftjson.read_ruleset(files.get("nft", ()), None, place)
        printed = {
            (table.family, table.name): table
            for family, question in (("ip", "iptables-save"), ("ip6", "ip6tables-save"))
            for table in iptables.read_saved(
                "\n".join(files.get(question, ())), family, "iptables-nft", place
            )
        }
        for table in found.tables:
            saved = printed.get((table.family, table.name))
            yield (None if saved is None else iptables.apply_hooks(saved, table)) or table
        yield from found.elements


def _route(place: str, row: dict[str, Any], anything: str) -> Route:
    destination = anything if row["dst"] == "default" else row["dst"]
    if "/" not in destination:
        destination = f"{destination}/{128 if ':' in destination else 32}"
    table = row.get("table", "main")
    return Route(
        namespace=place, destination=destination, gateway=row.get("gateway"), link=row.get("dev"),
        table=_TABLES.get(table) or int(table), metric=row.get("metric", 0),
        type=row.get("type", "unicast"), source=row.get("prefsrc"), scope=row.get("scope"),
        onlink="onlink" in row.get("flags", ()),
    )  # fmt: skip
