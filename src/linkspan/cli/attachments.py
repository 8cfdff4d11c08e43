"""Reading --network, --ip, --mac and key=value options into what the API takes. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

WISHES = {
    "ip": "ip",
    "ip6": "ipv6",
    "ipv6": "ipv6",
    "mac": "mac",
    "gw-priority": "gateway_priority",
    "priority": "gateway_priority",
    "alias": "aliases",
}
"""Wishes at a network, and what the API calls them."""


def read_pairs(option: str, given: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` options; a key alone has an empty value.

    Raises:
        click.BadParameter: a key is missing or given twice.
    """
    pairs: dict[str, str] = {}
    for text in given:
        key, _, value = text.partition("=")
        if not key:
            raise click.BadParameter(f"{text!r}: write KEY=VALUE", param_hint=option)
        if key in pairs:
            raise click.BadParameter(f"{key!r} is given twice", param_hint=option)
        pairs[key] = value
    return pairs


def read_networks(
    networks: tuple[str, ...],
    ip: str | None,
    mac: str | None,
    ip6: str | None = None,
    aliases: tuple[str, ...] = (),
) -> list[dict[str, Any]] | None:
    """The networks to join, None for the default one; --ip, --ip6, --mac and --alias belong to
    the only one.

    Raises:
        click.BadParameter, click.UsageError: says what to write instead.
    """
    wishes: dict[str, Any] = place_address(ip) if ip else {}
    wishes |= {"ipv6": ip6} if ip6 else {}
    wishes |= {"mac": mac} if mac else {}
    if not networks:
        if wishes or aliases:
            raise click.UsageError(
                "--ip, --ip6, --mac and --alias need --network, for they belong to a network"
            )
        return None
    read = [read_network(text) for text in networks]
    if wishes or aliases:
        if len(read) > 1:
            raise click.UsageError(
                "with several networks write what belongs to one at its name: "
                "--network NAME:ip=ADDRESS,alias=NAME"
            )
        read[0] |= wishes
        if aliases:
            read[0]["aliases"] = [*read[0].get("aliases", ()), *aliases]
    return read


def read_network(text: str) -> dict[str, Any]:
    """`NAME` or `NAME:ip=ADDRESS,ip6=ADDRESS,mac=MAC,gw-priority=N,alias=NAME`; alias= may be
    repeated.

    Raises:
        click.BadParameter: names what is wrong.
    """
    name, colon, wishes = text.partition(":")
    if not name or (colon and not wishes):
        raise click.BadParameter(f"{text!r}: write NAME or NAME:ip=ADDRESS", param_hint="--network")
    read: dict[str, Any] = {"network": name}
    for wish in filter(None, wishes.split(",")):
        key, _, value = wish.partition("=")
        if key not in WISHES or not value:
            known = ", ".join(f"{known}=" for known in WISHES)
            raise click.BadParameter(
                f"{wish!r} in {text!r}: known are {known}", param_hint="--network"
            )
        if key == "alias":
            read.setdefault("aliases", []).append(value)
        elif WISHES[key] == "gateway_priority":
            if not value.removeprefix("-").isdecimal():
                raise click.BadParameter(f"{wish!r}: write a whole number", param_hint="--network")
            read["gateway_priority"] = int(value)
        elif key == "ip":
            read |= place_address(value)
        else:
            read[WISHES[key]] = value
    return read


def place_address(address: str) -> dict[str, str]:
    """An address under the name of its IP version."""
    return {"ipv6": address} if ":" in address else {"ip": address}


def attachment_options(function: F) -> F:
    """--network, --ip, --ip6, --mac, --alias, --publish, --label: shared by run and attach."""
    for option in reversed(
        (
            click.option(
                "--network",
                "networks",
                multiple=True,
                metavar="NAME[:KEY=VALUE,...]",
                help="Network to join, with wishes: ip=, ip6=, mac=, alias=, gw-priority= (the "
                "highest carries the default route). Default: the daemon's default network.",
            ),
            click.option("--ip", metavar="ADDRESS", help="Address in the network, IPv4 or IPv6."),
            click.option("--ip6", metavar="ADDRESS", help="IPv6 address in the network."),
            click.option("--mac", metavar="MAC", help="MAC address in the network."),
            click.option(
                "--alias", "aliases", multiple=True, metavar="NAME", help="One more name there."
            ),
            click.option(
                "-p",
                "--publish",
                multiple=True,
                metavar="PORT",
                help="Publish [[HOST_IP:]HOST_PORT[-END]:]PORT[-END][/tcp|udp|sctp]. "
                "Without a host port a free one is chosen.",
            ),
            click.option(
                "--dns",
                multiple=True,
                metavar="ADDRESS",
                help="Server to ask for names outside. Default: the host's.",
            ),
            click.option(
                "-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label it."
            ),
        )
    ):
        function = option(function)
    return function
