"""What IPv6 forwarding needs, on kernels that can switch single interfaces and on older ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linkspan.dataplane import Change, Element, Remove, Replace, Sysctl
from linkspan.drivers.firewall import inet
from linkspan.engine.forwarding6 import (
    ALL,
    DEFAULT,
    Forwarding6,
    accept,
    force,
    give_back_all,
    plan_forwarding6,
)

NEW = {
    ALL: "0",
    DEFAULT: "0",
    force("all"): "0",
    **{force(name): "0" for name in ("eth0", "eth1", "br0")},
    **{accept(name): "1" for name in ("eth0", "eth1", "br0")},
}
OLD = {path: value for path, value in NEW.items() if not path.endswith("force_forwarding")}
HOST_ONLY = inet("host_only", "ipv6")


class Machine:
    """A host whose settings and guards follow the plans; the kernel's own effects included."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = dict(settings)
        self.guards: list[Element] = []
        self.remembered: dict[str, str] = {}
        self.guarded_when_forwarding: list[bool] = []
        self.deaf: set[str] = set()
        """Interfaces that forwarded while they ignored router advertisements."""

    def plan(self, bridges: list[str], uplinks: list[str]) -> Forwarding6:
        plan = plan_forwarding6(
            bridges, uplinks, ["eth0", "eth1"],
            settings=self.settings, guards=self.guards, remembered=self.remembered,
        )  # fmt: skip
        self.remembered = plan.remembered
        self.apply(plan.change)
        return plan

    def apply(self, change: Change) -> None:
        for operation in change:
            item = operation.new if isinstance(operation, Replace) else operation.object
            if isinstance(item, Sysctl):
                self._set(item.path, item.value)
            elif isinstance(operation, Remove):
                self.guards.remove(item)
            else:
                self.guards.append(item)
            self._look()

    def _set(self, path: str, value: str) -> None:
        self.settings[path] = value
        if path == ALL:
            self.settings[DEFAULT] = value

    def _look(self) -> None:
        if self.settings[ALL] == "1":
            self.guarded_when_forwarding.append(HOST_ONLY in self.guards)
            self.deaf |= {n for n in ("eth0", "eth1") if self.settings[accept(n)] == "1"}
        for name in ("eth0", "eth1"):
            if self.settings.get(force(name)) == "1":
                self.guarded_when_forwarding.append(inet("uplinks6", name) in self.guards)


def test_single_interfaces_are_switched_on_where_the_kernel_can() -> None:
    machine = Machine(NEW)
    machine.plan(["br0"], ["eth0"])
    changed = {path for path in NEW if machine.settings[path] != NEW[path]}
    assert changed == {force("eth0"), force("br0")}
    assert machine.guards == [inet("uplinks6", "eth0")]
    # A bridge takes its settings along when it goes.
    assert machine.remembered == {force("eth0"): "0"}
    assert machine.plan(["br0"], ["eth0"]).change == ()


def test_elsewhere_interfaces_keep_their_router_advertisements() -> None:
    machine = Machine(OLD)
    machine.plan(["br0"], ["eth0"])
    assert machine.settings[ALL] == "1"
    assert machine.settings[DEFAULT] == "0"
    assert machine.settings[accept("eth0")] == machine.settings[accept("eth1")] == "2"
    assert machine.deaf == set()
    assert machine.guards == [HOST_ONLY]
    assert machine.plan(["br0"], ["eth0"]).change == ()


def test_a_router_is_left_alone() -> None:
    for settings in (NEW, OLD):
        machine = Machine(settings | {ALL: "1"})
        assert machine.plan(["br0"], ["eth0"]).change == ()
        assert machine.remembered == {}


def test_an_interface_that_forwards_by_another_will_is_not_guarded() -> None:
    machine = Machine(NEW | {force("eth0"): "1"})
    machine.plan(["br0"], ["eth0", "eth1"])
    assert machine.guards == [inet("uplinks6", "eth1")]
    machine.plan([], [])
    assert machine.settings[force("eth0")] == "1"


def test_what_somebody_switched_off_is_switched_on_again() -> None:
    for settings, path in ((NEW, force("eth0")), (OLD, ALL)):
        machine = Machine(settings)
        machine.plan(["br0"], ["eth0"])
        machine.settings[path] = "0"
        machine.plan(["br0"], ["eth0"])
        assert machine.settings[path] == "1"


STEPS = st.lists(
    st.tuples(
        st.sampled_from([[], ["br0"]]), st.lists(st.sampled_from(["eth0", "eth1"]), unique=True)
    ),
    max_size=6,
)


@given(st.sampled_from([NEW, OLD]), STEPS)
def test_everything_is_given_back_and_nothing_is_forwarded_unguarded(
    settings: dict[str, str], steps: list[tuple[list[str], list[str]]]
) -> None:
    machine = Machine(settings)
    for bridges, uplinks in steps:
        machine.plan(bridges, uplinks)
    machine.apply(give_back_all(machine.remembered, machine.settings, list(machine.guards)))
    left = {p for p, value in machine.settings.items() if value != settings[p]}
    assert left <= {force("br0")}
    assert machine.guards == []
    assert all(machine.guarded_when_forwarding)
    assert machine.deaf == set()
