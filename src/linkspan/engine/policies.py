"""Policies: what nobody may ask of this host, and who asks for it all the same. Pure.

one-network            a sandbox is on one network at most
no-routing             no sandbox passes packets on between its networks
no-host-mode           no sandbox uses the host's own network
published-on=ADDR,...  ports are published on these host addresses (or prefixes) only

A policy refuses what is asked for from then on. What is there already stays, and is listed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from linkspan.drivers.options import parse_boolean
from linkspan.drivers.records import Network, Opening, Sandbox
from linkspan.errors import InvalidRequest

PREFIX = "policies/"
ONE_NETWORK, NO_ROUTING, NO_HOST_MODE, PUBLISHED_ON = (
    "one-network",
    "no-routing",
    "no-host-mode",
    "published-on",
)
NAMES = (ONE_NETWORK, NO_ROUTING, NO_HOST_MODE, PUBLISHED_ON)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy in force: its name, its values (published-on has some), since when and by whom."""

    name: str
    values: tuple[str, ...] = ()
    opening: Opening

    def __str__(self) -> str:
        return f"{self.name}={','.join(self.values)}" if self.values else self.name


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy has against a sandbox, and what would be right."""

    policy: Policy
    sandbox: str
    reason: str
    advice: str


def draft_policy(name: str, values: Iterable[str], opening: Opening) -> Policy:
    """The policy that is asked for, its addresses in canonical form.

    Raises:
        InvalidRequest: there is no such policy, or its values are missing, wrong or too many.
    """
    if name not in NAMES:
        raise InvalidRequest(f"there is no policy {name!r}; choose {', '.join(NAMES)}")
    given = list(values)
    if name != PUBLISHED_ON:
        if given:
            raise InvalidRequest(f"policy {name} takes no value; leave out {', '.join(given)}")
        return Policy(name=name, opening=opening)
    if not given:
        raise InvalidRequest(
            f"policy {name} needs the host addresses that ports may be published on, "
            f"like {name}=127.0.0.1,192.0.2.10"
        )
    return Policy(name=name, values=tuple(map(_canonical, given)), opening=opening)


def find_violations(
    policies: Iterable[Policy], sandbox: Sandbox, networks: Mapping[str, Network]
) -> Iterator[Violation]:
    """What policies have against a sandbox; `networks` by id holds at least its own."""
    for policy in policies:
        for reason, advice in _CHECKS[policy.name](policy, sandbox, networks):
            yield Violation(policy=policy, sandbox=sandbox.name, reason=reason, advice=advice)


_Findings = Iterator[tuple[str, str]]


def _check_one_network(_: Policy, sandbox: Sandbox, networks: Mapping[str, Network]) -> _Findings:
    if len(sandbox.endpoints) > 1:
        yield (
            f"{sandbox.name} on {len(sandbox.endpoints)} networks ({_names(sandbox, networks)})",
            "choose one of them",
        )


def _check_no_routing(_: Policy, sandbox: Sandbox, networks: Mapping[str, Network]) -> _Findings:
    if len(sandbox.endpoints) < 2 and sandbox.made:
        return
    for endpoint in sandbox.endpoints:
        network = networks[endpoint.network]
        if not endpoint.host_interface:
            yield (
                f"{sandbox.name} on network {network.name} and on others: its driver "
                f"{network.driver} gives no port on this host that could be guarded",
                "choose networks of driver bridge, or one network alone",
            )
        elif not parse_boolean(network.options.get("source_check", "true")):
            yield (
                f"{sandbox.name} on network {network.name}, whose option source_check is off, "
                "and on others: it could send there what is not its own",
                "choose a network that checks sources",
            )


def _check_no_host_mode(_: Policy, sandbox: Sandbox, __: Mapping[str, Network]) -> _Findings:
    if sandbox.host_mode:
        yield f"{sandbox.name} in the host's own network", "choose another network"


def _check_published_on(policy: Policy, sandbox: Sandbox, _: Mapping[str, Network]) -> _Findings:
    for port in sandbox.ports:
        if not _permits(policy.values, port.host_ip):
            first = policy.values[0]
            address = f"[{first}]" if ":" in first else first
            inside = str(port).rpartition(f":{port.host_port}")[2]
            example = f", like {address}:{port.host_port}{inside}" if "/" not in first else ""
            yield (
                f"port {port} of {sandbox.name}",
                f"name one of {', '.join(policy.values)} as the host address{example}",
            )


_CHECKS = {
    ONE_NETWORK: _check_one_network,
    NO_ROUTING: _check_no_routing,
    NO_HOST_MODE: _check_no_host_mode,
    PUBLISHED_ON: _check_published_on,
}


def _names(sandbox: Sandbox, networks: Mapping[str, Network]) -> str:
    return ", ".join(networks[endpoint.network].name for endpoint in sandbox.endpoints)


def _permits(values: Collection[str], host_ip: str) -> bool:
    """Whether one of the values is the address, or a prefix with it. "Every address" is only
    what is listed as such: no prefix has it.
    """
    if host_ip in values:
        return True
    address = ipaddress.ip_address(host_ip)
    return not address.is_unspecified and any(
        address in ipaddress.ip_network(value) for value in values if "/" in value
    )


def _canonical(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text) if "/" in text else ipaddress.ip_address(text))
    except ValueError as error:
        raise InvalidRequest(f"policy {PUBLISHED_ON}: {error}") from None
