"""What policies have against a sandbox, and what the audit says of one: values in, values out."""

from __future__ import annotations

import pytest

from linkspan.drivers.own_packets import describe_own_packets
from linkspan.drivers.records import Actor, Endpoint, Network, Opening, PublishedPort, Sandbox
from linkspan.engine.auditing import Configuration, find_holes
from linkspan.engine.policies import draft_policy, find_violations
from linkspan.errors import InvalidRequest

ALICE = Actor(uid=0, pid=7, user="root", login="alice", program="linkspan")
THEN, LATER = Opening(at=1.0, by=ALICE), Opening(at=2.0)


def network(name: str, **options: str) -> Network:
    return Network(
        id=name, name=name, driver="bridge", interface=f"ls-{name}", options=options,
        created=1.0, created_by=ALICE,
    )  # fmt: skip


NETWORKS = {
    n.id: n for n in (network("web"), network("back"), network("loose", source_check="false"))
}


def sandbox(*networks: str, ports: tuple[PublishedPort, ...] = (), **more: object) -> Sandbox:
    endpoints = tuple(
        Endpoint(id=name, network=name, host_interface=f"lsv{name}") for name in networks
    )
    fields = {"id": "s", "name": "shop", "state": "up", "created": 1.0, "created_by": ALICE}
    return Sandbox(endpoints=endpoints, ports=ports, **{**fields, **more})  # type: ignore[arg-type]


def published(ip: str = "0.0.0.0") -> PublishedPort:
    return PublishedPort(host_ip=ip, host_port=8080, host_port_end=8080, port=80)


@pytest.mark.parametrize(
    ("name", "values", "one", "count"),
    [
        ("one-network", [], sandbox("web"), 0),
        ("one-network", [], sandbox(), 0),
        ("one-network", [], sandbox("web", "back"), 1),
        ("no-host-mode", [], sandbox(host_mode=True), 1),
        ("no-host-mode", [], sandbox("web"), 0),
        ("no-routing", [], sandbox("web", "back"), 0),
        ("no-routing", [], sandbox("web", "loose"), 1),
        ("no-routing", [], sandbox("loose"), 0),
        ("no-routing", [], sandbox("loose", made=False), 1),
        ("published-on", ["127.0.0.1"], sandbox("web", ports=(published(),)), 1),
        ("published-on", ["127.0.0.1"], sandbox("web", ports=(published("127.0.0.1"),)), 0),
        ("published-on", ["10.0.0.0/8"], sandbox("web", ports=(published("10.1.2.3"),)), 0),
        ("published-on", ["0.0.0.0/0"], sandbox("web", ports=(published(),)), 1),
        ("published-on", ["0.0.0.0"], sandbox("web", ports=(published(),)), 0),
        ("published-on", ["0.0.0.0"], sandbox("web", ports=(published("::"),)), 1),
        ("published-on", ["0:0::1"], sandbox("web", ports=(published("::1"),)), 0),
    ],
)
def test_a_policy_has_something_against(name: str, values: list[str], one: Sandbox, count: int):
    policy = draft_policy(name, values, THEN)
    assert len(list(find_violations([policy], one, NETWORKS))) == count


@pytest.mark.parametrize(
    ("name", "values"),
    [("no-fun", []), ("one-network", ["1"]), ("published-on", []), ("published-on", ["web"])],
)
def test_what_is_no_policy_is_refused(name: str, values: list[str]):
    with pytest.raises(InvalidRequest):
        draft_policy(name, values, THEN)


@pytest.mark.parametrize(
    ("one", "guarded"),
    [
        (sandbox("web"), set()),
        (sandbox("web", "back"), {"lsvweb", "lsvback"}),
        (sandbox("web", made=False), {"lsvweb"}),
        (sandbox("web", "back", state="exited"), set()),
    ],
)
def test_ports_are_guarded_where_there_is_something_between(one: Sandbox, guarded: set[str]):
    assert {element.first[0] for element in describe_own_packets(one)} == guarded


def test_the_audit_knows_who_opened_each_hole_and_when():
    first, second = published(), published("127.0.0.1")
    one = sandbox(
        "web", "back", ports=(first, second), openings={str(second): LATER, "back": LATER}
    )
    holes = find_holes(Configuration(networks=NETWORKS, sandboxes=[one]))
    found = {(hole.kind, hole.what): hole.opening for hole in holes if hole.name == "shop"}
    assert found == {
        ("published_port", f"port {first}"): THEN,
        ("published_port", f"port {second}"): LATER,
        ("several_networks", "is on web and back"): LATER,
    }


def test_what_holds_a_router_back_is_told():
    def way(*networks: str, policies: tuple[str, ...] = ()) -> str:
        configuration = Configuration(
            networks=NETWORKS,
            sandboxes=[sandbox(*networks)],
            policies={name: draft_policy(name, (), THEN) for name in policies},
        )
        (hole,) = [h for h in find_holes(configuration) if h.kind == "several_networks"]
        return hole.open_to

    assert "one way by translation" in way("web", "back")
    assert "by routing: loose checks no sources" in way("web", "loose")
    assert "not by routing" in way("web", "back", policies=("no-routing",))


def test_what_holds_nothing_opens_nothing():
    gone = sandbox("web", "back", ports=(published(),), state="exited")
    assert [
        h.kind for h in find_holes(Configuration(networks={"web": NETWORKS["web"]},
                                                 sandboxes=[gone]))
    ] == []  # fmt: skip
