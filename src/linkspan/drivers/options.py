"""Options of a network: their names, ours and Docker's, and the values they take."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

from linkspan.errors import InvalidRequest

Parser = Callable[[str], object]


def parse_boolean(text: str) -> bool:
    """true/false as Docker writes them, also 1/0, yes/no, on/off."""
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def parse_mtu(text: str) -> int:
    """Bytes: 68 (RFC 791's least) to 65535."""
    if text.isdigit() and 68 <= int(text) <= 65535:
        return int(text)
    raise ValueError("a number of bytes from 68 to 65535")


def parse_interface_name(text: str) -> str:
    """A name that the kernel takes for an interface (dev_valid_name in net/core/dev.c)."""
    if 0 < len(text.encode()) <= 15 and text not in (".", "..") and not set(text) & set("/: \t\n"):
        return text
    raise ValueError("1 to 15 characters without slash, colon or space")


def parse_gateway_mode(text: str) -> str:
    """nat, routed or isolated."""
    if text in ("nat", "routed", "isolated"):
        return text
    raise ValueError("nat, routed or isolated")


def parse_host_binding(text: str) -> str:
    """An address of the host that ports are published on unless theirs is stated."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("an IP address of this host, such as 127.0.0.1") from None


def canonical_options(
    driver: str, given: Mapping[str, str], known: Mapping[str, Parser], aliases: Mapping[str, str]
) -> dict[str, str]:
    """`given` with every name in our own spelling.

    Raises InvalidRequest for a name that the driver does not know, a value that it cannot
    take, or one option given twice under two names.
    """
    result: dict[str, str] = {}
    for name, value in given.items():
        own = aliases.get(name, name)
        if own not in known:
            raise InvalidRequest(
                f"the {driver} driver has no option {name!r}; it knows {', '.join(sorted(known))}"
                if known
                else f"the {driver} driver has no options; {name!r} was given"
            )
        if own in result:
            raise InvalidRequest(f"option {own!r} is given twice, once as {name!r}")
        try:
            known[own](value)
        except ValueError as error:
            raise InvalidRequest(f"option {name}={value!r}: expected {error}") from None
        result[own] = value
    return result
