"""What if, without a kernel: commands are carried out on a host that is a value."""

from __future__ import annotations

import msgspec
import pytest

from linkspan.analysis import Flow, Verdict, View, trace_flow
from linkspan.cli.planning import apply_plans
from linkspan.dataplane import (
    Address,
    DataPlane,
    Link,
    Listener,
    Loopback,
    Namespace,
    Physical,
    Route,
    Sysctl,
)
from linkspan.errors import InvalidRequest
from linkspan.inventory.records import Container, HostView


@pytest.fixture
def host() -> HostView:
    """A host with one uplink on which linkspan has never run."""
    settings = ("ipv4/ip_forward", "ipv4/conf/eth0/forwarding", "ipv6/conf/all/disable_ipv6")
    plane = DataPlane(
        (
            Link(name="lo", kind=Loopback(), up=True),
            Link(name="eth0", kind=Physical(), mtu=1500, up=True),
            Address(link="eth0", address="192.0.2.10/24"),
            Route(destination="0.0.0.0/0", gateway="192.0.2.1", link="eth0"),
            Listener(protocol="tcp", address="0.0.0.0", port=22),
            *(Sysctl(path=path, value="0") for path in settings),
        )
    )
    return HostView(
        plane=plane, containers=(Container(namespace="host", name="host", runtime="host"),)
    )


FRONT = "network create front --subnet 10.77.0.0/24"


def ask(view: HostView, origin: str, flow: Flow) -> tuple[Verdict, str]:
    answer = trace_flow(View(view.plane, sockets_known=True), origin, flow)
    return answer.verdict, answer.first.namespace


def test_commands_follow_each_other(host: HostView):
    view = apply_plans(
        host,
        [FRONT, "run --name web2 --network front -p 8080:80",
         "linkspan run --name db --network front"],
    )  # fmt: skip
    assert [(one.name, one.runtime, one.networks, one.published) for one in view.containers] == [
        ("host", "host", (), ()),
        ("web2", "linkspan", ("front",), ("0.0.0.0:8080->80/tcp",)),
        ("db", "linkspan", ("front",), ()),
    ]
    assert {one.namespace for one in view.plane.of(Namespace) if one.planned} == {"web2", "db"}
    stranger = Flow(
        source="192.0.2.99", destination="192.0.2.10", destination_port=8080, link="eth0"
    )
    assert ask(view, "host", stranger) == (Verdict.DELIVERED, "web2")
    inside = Flow(destination="10.77.0.3", destination_port=5432)
    assert ask(view, "web2", inside) == (Verdict.DELIVERED, "db")
    assert ask(view, "host", Flow(destination="192.0.2.10", destination_port=23)) == (
        Verdict.NOT_DELIVERED, "host",
    )  # fmt: skip


def test_what_a_plan_made_another_takes_away(host: HostView):
    once = apply_plans(host, [FRONT])
    again = apply_plans(host, [FRONT, "attach --name late --network front", "detach late"])
    assert {str(item.key)[:9] for item in again.plane} == {str(item.key)[:9] for item in once.plane}
    assert not [item for item in again.plane if item.namespace != "host"]
    assert again.containers == once.containers == host.containers


def test_the_view_itself_stays(host: HostView):
    before = set(host.plane.keys())
    apply_plans(host, [FRONT])
    assert set(host.plane.keys()) == before


def test_a_port_in_use_is_refused_as_the_daemon_would(host: HostView):
    with pytest.raises(InvalidRequest, match=r"would be refused.*22/tcp"):
        apply_plans(host, [FRONT, "run --name web2 --network front -p 22:80"])


def test_a_host_of_linkspans_without_its_records_is_not_guessed_at(host: HostView):
    made = Link(name="ls-1", alias="linkspan:network:1")
    view = msgspec.structs.replace(host, plane=host.plane.with_object(made))
    with pytest.raises(InvalidRequest, match="what it has stored is not known"):
        apply_plans(view, [FRONT])


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (FRONT, "a network named front exists already"),
        ("network rm fornt", "there is no network 'fornt'"),
        ("exec shop -- true", "cannot say before what it will do"),
        ("ps", "changes nothing"),
        ("path shop db", "changes nothing"),
        ("netwrok create x", "No such command"),
        ("kill shop", "cannot be told before"),
        ("--version", "changes nothing"),
        ("run web2 --network web -p 8081:80", "options of run come before the program"),
        ("run 'x", "no closing quotation"),
        ("", "name a command"),
    ],
)
def test_what_cannot_be_planned_says_why(host: HostView, plan: str, said: str):
    with pytest.raises(InvalidRequest) as refusal:
        apply_plans(host, [FRONT, plan])
    assert said in str(refusal.value)
    assert plan in str(refusal.value)
