"""From networks and sandboxes to names."""

from __future__ import annotations

import msgspec
import pytest

from linkspan.drivers.records import Sandbox
from linkspan.names.records import Change, Names, Service
from linkspan.names.table import change_of, describe_names, hosts_of, resolver_of
from names.stage import BACK, BRIDGE, NETWORKS, SHOP, join, published, sandbox


def test_a_sandbox_is_called_by_name_alias_and_short_id() -> None:
    db = sandbox("db", join(SHOP, 2, "postgres", "db"))
    (host,) = hosts_of(db, NETWORKS)
    assert host.names == ("db", "postgres", db.id[:12])
    assert (host.ipv4, host.ipv6) == ("10.20.0.2", "fd00:20::2")


def test_the_default_network_names_nobody() -> None:
    lonely = sandbox("db", join(BRIDGE, 2))
    assert hosts_of(lonely, NETWORKS) == ()
    assert resolver_of(lonely, NETWORKS) is None
    both = sandbox("db", join(BRIDGE, 2), join(BACK, 2))
    assert [host.network for host in hosts_of(both, NETWORKS)] == [BACK.id]
    resolver = resolver_of(both, NETWORKS)
    assert resolver is not None
    assert resolver.networks == (BACK.id,)
    assert resolver.external  # by the default network it has a way out


def test_a_resolver_looks_first_where_the_default_route_leads() -> None:
    resolver = resolver_of(
        sandbox("web", join(BACK, 2), join(SHOP, 2, priority=5), dns=("192.0.2.53",)), NETWORKS
    )
    assert resolver is not None
    assert resolver.networks == (SHOP.id, BACK.id)
    assert resolver.external
    assert resolver.servers == ("192.0.2.53",)
    inside = resolver_of(sandbox("web", join(BACK, 2)), NETWORKS)
    assert inside is not None
    assert not inside.external


@pytest.mark.parametrize("more", [{"state": "exited"}, {"state": "gone"}, {"host_mode": True}])
def test_what_does_not_live_here_has_no_names(more: dict[str, object]) -> None:
    left = sandbox("db", join(SHOP, 2), **more)
    assert hosts_of(left, NETWORKS) == ()
    assert resolver_of(left, NETWORKS) is None


def test_services_are_published_ports_and_labels() -> None:
    db = sandbox(
        "db",
        join(SHOP, 2),
        ports=(published(5432), published(53, "udp")),
        labels={
            "linkspan.service.Metrics": "9187",
            "linkspan.service.bad": "none",
            "linkspan.service.worse": "70000/tcp",
        },
    )
    (host,) = hosts_of(db, NETWORKS)
    assert set(host.services) == {
        Service("metrics", "tcp", 9187),
        Service("9187", "tcp", 9187),
        Service("5432", "tcp", 5432),
        Service("53", "udp", 53),
    }


def follow(start: Names, change: Change) -> Names:
    """What is known after a change, as a set of everything."""
    zones = {z.id: z for z in (*start.zones, *change.put.zones)}
    hosts = {h.key: h for h in (*start.hosts, *change.put.hosts)}
    resolvers = {r.id: r for r in (*start.resolvers, *change.put.resolvers)}
    for key in change.hosts_dropped:
        del hosts[key]
    for id in (*change.resolvers_dropped, *change.resolvers_gone):
        del resolvers[id]
    return Names(
        zones=tuple(zones.values()),
        hosts=tuple(hosts.values()),
        resolvers=tuple(resolvers.values()),
    )


STATES: list[Sandbox | None] = [
    None,
    sandbox("db", join(SHOP, 2)),
    sandbox("db", join(SHOP, 2), join(BACK, 3)),
    sandbox("db", join(BRIDGE, 2)),
    sandbox("db", join(SHOP, 9, "postgres")),
    sandbox("db", state="exited"),
    sandbox("db", join(SHOP, 2), netns="/proc/7/ns/net", inode=8, made=False),
]


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_a_change_leads_from_one_state_to_the_other(
    before: Sandbox | None, after: Sandbox | None
) -> None:
    rows = [[s] if s is not None else [] for s in (before, after)]
    start, end = (describe_names(NETWORKS.values(), row) for row in rows)
    change = change_of(before, after, NETWORKS)
    assert follow(start, change) == end
    assert bool(change) == (start != end)
    again = msgspec.json.decode(msgspec.json.encode(change), type=Change)
    assert again == change


def test_only_in_a_namespace_that_ends_is_nothing_cleaned_up() -> None:
    made = sandbox("db", join(SHOP, 2))
    foreign = msgspec.structs.replace(made, made=False)
    assert change_of(made, None, NETWORKS).resolvers_gone == (made.id,)
    assert change_of(foreign, None, NETWORKS).resolvers_dropped == (made.id,)
    left = msgspec.structs.replace(made, endpoints=())
    assert change_of(made, left, NETWORKS).resolvers_dropped == (made.id,)
