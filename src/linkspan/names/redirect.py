"""The way from port 53 to the resolver's own port, inside a sandbox.

A listener on 127.0.0.11:53 would keep a container's own server from 0.0.0.0:53. So the
resolver listens on a high port, and a table of the sandbox's namespace writes that port into
what is sent to 127.0.0.11:53, and 53 into what comes back. It works without connection
tracking: a container that looks up a thousand names has no thousand flows to remember, and
its own firewall's translations stay untouched.
"""

from __future__ import annotations

from linkspan.dataplane.rules import (
    Chain,
    FirewallRule,
    Match,
    Notrack,
    Payload,
    SetField,
    Table,
)
from linkspan.names.resolvconf import ADDRESS

FAMILY, TABLE = "ip", "linkspan_names"
DOMAIN = 53
_BEFORE_CONNECTION_TRACKING = -300


def describe_redirect(port: int, namespace: str) -> Table:
    """The table that leads to `port`."""
    rules = tuple(
        FirewallRule(
            (
                Match(Payload("ip", address), ADDRESS),
                Match(Payload(protocol, field), old),
                Notrack(),
                SetField(Payload(protocol, field), new),
            )
        )
        for protocol in ("udp", "tcp")
        for address, field, old, new in (
            ("daddr", "dport", DOMAIN, port),
            ("saddr", "sport", port, DOMAIN),
        )
    )
    chain = Chain(name="redirect", hook="output", priority=_BEFORE_CONNECTION_TRACKING, rules=rules)
    return Table(namespace=namespace, family=FAMILY, name=TABLE, chains=(chain,))
