"""Transactions: all or nothing, errors that name the thing, and who may change our tables."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator

import pytest

from lab import Lab, Namespace
from linkspan.dataplane import Add, Element, FirewallRule, Remove, Replace, Table
from linkspan.dataplane.rules import Chain, Counter, Match, Meta, SetOf, Verdict, VerdictMap
from linkspan.drivers import firewall as layout
from linkspan.errors import InvalidRequest, KernelRefused, NotFound, Unsupported
from linkspan.kernel.netfilter import batch
from linkspan.kernel.netfilter.firewall import Firewall

TABLE = layout.INET_TABLE


def port(number: int, address: str = "10.20.0.2", protocol: str = "tcp") -> Element:
    return layout.inet("ports", protocol, number, data=(address, 80))


def added(*elements: Element) -> list[Add]:
    return [Add(element) for element in elements]


@pytest.fixture
def host(netns: Callable[[str], Namespace]) -> Namespace:
    return netns("host")


@pytest.fixture
def opened(host: Namespace) -> Iterator[Callable[..., Firewall]]:
    """Opens firewalls in the host; closes them after the test."""
    descriptor = os.open(host.path, os.O_RDONLY)
    made: list[Firewall] = []

    def open_firewall(own: bool = False) -> Firewall:
        made.append(Firewall(descriptor, own=own))
        return made[-1]

    yield open_firewall
    for firewall in made:
        firewall.close()
    os.close(descriptor)


@pytest.fixture
def firewall(opened: Callable[..., Firewall]) -> Firewall:
    """A firewall with our table loaded, without an owner."""
    made = opened()
    made.transaction([Add(TABLE)])
    return made


def elements_in(firewall: Firewall) -> set[Element]:
    return set(firewall.read("inet", TABLE.name)[1])


# Elements -----------------------------------------------------------------------------


def test_elements_come_and_go_and_doing_it_twice_is_no_error(firewall: Firewall) -> None:
    firewall.transaction(added(port(1), port(2)))
    firewall.transaction(added(port(2), port(3)))
    assert elements_in(firewall) == {port(1), port(2), port(3)}
    firewall.transaction([Remove(port(1)), Remove(port(7))])
    firewall.transaction([Remove(port(1)), Remove(port(2))])
    assert elements_in(firewall) == {port(3)}


def test_kernels_without_silent_removal_are_asked_again_without_what_is_missing(
    firewall: Firewall,
) -> None:
    firewall._remove_type = batch.DELETE_ELEMENT  # what a kernel before 6.3 leads to
    firewall.transaction(added(port(1), port(2)))
    firewall.transaction([Remove(port(7)), Remove(port(1)), Remove(port(8)), Add(port(3))])
    assert elements_in(firewall) == {port(2), port(3)}


def test_a_replaced_element_leads_elsewhere(firewall: Firewall) -> None:
    old = [port(number) for number in range(1, 50)]
    new = [port(number, "10.20.0.9") for number in range(1, 50)]
    firewall.transaction(added(*old))
    firewall.transaction([Replace(a, b) for a, b in zip(old, new, strict=True)])
    assert elements_in(firewall) == set(new)


def test_an_element_with_other_data_is_refused_by_name_and_nothing_is_changed(
    firewall: Firewall,
) -> None:
    firewall.transaction(added(port(500)))
    wanted = [port(number, "10.20.0.9") for number in range(1, 1000)]
    with pytest.raises(KernelRefused, match=r"element tcp \. 500 of inet linkspan ports") as caught:
        firewall.transaction(added(*wanted))
    assert caught.value.errno in (errno.EBUSY, errno.EEXIST)
    assert elements_in(firewall) == {port(500)}


def test_overlapping_ranges_are_refused_by_name(firewall: Firewall) -> None:
    def ports(first: int, last: int) -> Element:
        return layout.inet("ranges", "tcp", first, last=("tcp", last), data=("10.20.0.2",))

    firewall.transaction(added(ports(8000, 8999), ports(9000, 9000)))
    with pytest.raises(KernelRefused, match=r"element tcp \. 8500 to tcp \. 9500"):
        firewall.transaction(added(ports(8500, 9500)))


def test_neighbouring_prefixes_stay_apart(firewall: Firewall) -> None:
    nets = [layout.inet("masquerade4", f"10.20.{n}.0/24") for n in range(8)]
    nets += [layout.inet("masquerade6", "fd00::/64"), layout.inet("masquerade6", "fd00:0:0:1::/64")]
    firewall.transaction(added(*nets))
    firewall.transaction([Remove(nets[3])])
    assert elements_in(firewall) == {*nets} - {nets[3]}
    firewall.transaction(added(nets[3]))
    assert elements_in(firewall) == set(nets)


def test_ten_thousand_elements_are_written_and_read_within_a_second(firewall: Firewall) -> None:
    wanted = [port(n, f"10.20.{n >> 8}.{n & 255}") for n in range(1, 10_001)]
    start = time.perf_counter()
    firewall.transaction(added(*wanted))
    assert elements_in(firewall) == set(wanted)
    firewall.transaction([Remove(element) for element in wanted])
    assert time.perf_counter() - start < 1
    assert elements_in(firewall) == set()


def test_what_does_not_fit_a_set_is_refused_before_the_kernel_is_asked(firewall: Firewall) -> None:
    for wrong, reason in (
        (layout.inet("ports", "tcp", data=("10.20.0.2", 80)), "1 parts, the set has 2"),
        (layout.inet("ports", "tcp", 80), "needs data"),
        (layout.inet("bridges", "br-web", data=("x",)), "takes no data"),
        (layout.inet("ports", "tcp", 70000, data=("10.20.0.2", 80)), "70000"),
        (layout.inet("bridges", "a-name-that-is-too-long"), "a-name-that-is-too-long"),
        (layout.inet("bridges", "a", last=("b",)), "holds no ranges"),
        (layout.inet("masquerade4", "10.0.0.9", last=("10.0.0.1",)), "ends before it starts"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            firewall.transaction([Add(wrong)])
    with pytest.raises(NotFound, match="there is no set nothing in table inet linkspan"):
        firewall.transaction([Add(layout.inet("nothing", 1))])


# Tables -------------------------------------------------------------------------------


def test_a_living_table_is_replaced_with_its_elements_or_not_at_all(firewall: Firewall) -> None:
    firewall.transaction(added(port(1)))
    with pytest.raises(KernelRefused, match=r"element tcp \. 3"):
        firewall.transaction([Add(TABLE), *added(port(3), port(3, "10.20.0.9"))])
    assert elements_in(firewall) == {port(1)}
    firewall.transaction([Add(TABLE), *added(port(3))])
    assert elements_in(firewall) == {port(3)}
    assert firewall.differences(TABLE) == ()


def test_removing_a_table_takes_everything_and_is_no_error_when_it_is_gone(
    firewall: Firewall,
) -> None:
    firewall.transaction(added(port(1)))
    firewall.transaction([Remove(TABLE)])
    assert firewall.read("inet", TABLE.name) == (None, ())
    firewall.transaction([Remove(TABLE), Remove(port(1))])


def test_a_rule_without_code_is_refused_as_a_whole(firewall: Firewall) -> None:
    rule = FirewallRule((Match(Meta("cgroup"), 5), Verdict("drop")))
    table = Table(family="inet", name="odd", chains=(Chain(name="c", rules=(rule,)),))
    with pytest.raises(Unsupported, match="cgroup"):
        firewall.transaction([Add(table)])
    assert firewall.read("inet", "odd") == (None, ())


def test_a_rule_that_the_kernel_refuses_is_named(firewall: Firewall) -> None:
    rule = FirewallRule((Verdict("jump", "nowhere"),))
    table = Table(family="inet", name="odd", chains=(Chain(name="c", rules=(rule,)),))
    with pytest.raises(KernelRefused, match="rule 1 of chain inet odd c"):
        firewall.transaction([Add(table)])


def test_a_table_that_is_as_described_is_read_as_described(firewall: Firewall) -> None:
    firewall.transaction(added(port(1)))
    table, elements = firewall.read("inet", TABLE.name, like=TABLE)
    assert table == TABLE
    assert elements == (port(1),)
    shell, _ = firewall.read("inet", TABLE.name)
    assert shell is not None
    assert shell.sets == TABLE.sets
    assert [c.name for c in shell.chains] == [c.name for c in TABLE.chains]
    assert [len(c.rules) for c in shell.chains] == [len(c.rules) for c in TABLE.chains]


# Changes by others --------------------------------------------------------------------

RULES = {chain.name: len(chain.rules) for chain in TABLE.chains}


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            "add rule inet linkspan forward accept",
            f"chain forward .* has {RULES['forward'] + 1} rules, not {RULES['forward']}",
        ),
        (
            "insert rule inet linkspan refuse drop",
            f"chain refuse .* has {RULES['refuse'] + 1} rules, not {RULES['refuse']}",
        ),
        (
            "flush chain inet linkspan refuse",
            f"chain refuse .* has 0 rules, not {RULES['refuse']}",
        ),
        ("add chain inet linkspan more", "chain more of table inet linkspan is not ours"),
        (
            "add chain inet linkspan forward { policy drop ; }",
            "chain forward of table inet linkspan was changed",
        ),
        ("add set inet linkspan more { type mark ; }", "set more .* is not ours"),
        ("add table inet linkspan { flags dormant ; }", "is switched off"),
        ("delete table inet linkspan", "table inet linkspan is missing"),
    ],
)
def test_changed_rules_are_noticed(
    lab: Lab, host: Namespace, firewall: Firewall, command: str, line: str
) -> None:
    assert firewall.intact("inet", TABLE.name)
    lab.run(host, ["nft", command])
    kept = "add set" in command
    assert firewall.intact("inet", TABLE.name) is kept
    lines = firewall.differences(TABLE)
    assert len(lines) == 1
    assert re.search(line, lines[0])
    assert firewall.read("inet", TABLE.name, like=TABLE)[0] != TABLE
    firewall.transaction([Add(TABLE)])
    assert firewall.intact("inet", TABLE.name)
    assert firewall.differences(TABLE) == ()


def test_a_rule_of_the_same_shape_with_another_value_is_noticed(
    lab: Lab, host: Namespace, firewall: Firewall
) -> None:
    def table(link: str, *states: str) -> Table:
        rules = (
            FirewallRule((Match(Meta("iifname"), link), Counter(), Verdict("drop"))),
            FirewallRule((Match(Meta("mark"), SetOf((1, 2))), Verdict("accept"))),
            FirewallRule((VerdictMap(Meta("mark"), ((3, Verdict(states[0])),)),)),
        )
        return Table(family="inet", name="shape", chains=(Chain(name="c", rules=rules),))

    firewall.transaction([Add(table("eth0", "drop"))])
    lab.run(host, ["nft", "reset", "rules"], check=False)
    assert firewall.differences(table("eth0", "drop")) == ()
    assert firewall.differences(table("eth1", "drop")) == (
        "rule 1 of chain c of table inet shape was changed",
    )
    assert firewall.differences(table("eth0", "accept")) == (
        "rule 3 of chain c of table inet shape was changed",
    )


def test_the_generation_grows_with_every_change(
    lab: Lab, host: Namespace, firewall: Firewall
) -> None:
    before = firewall.generation()
    lab.run(host, ["nft", "add table inet other"])
    assert firewall.generation() == before + 1


# Ownership ----------------------------------------------------------------------------


def skip_without_owners(firewall: Firewall) -> None:
    if not firewall.supports_owner():
        pytest.skip("tables that belong to a socket and outlive it: Linux 6.9")


@pytest.fixture
def owner(opened: Callable[..., Firewall]) -> Firewall:
    made = opened(own=True)
    skip_without_owners(made)
    made.transaction([Add(TABLE), *added(port(1))])
    return made


def test_an_owned_table_is_passed_by_a_flush_and_refused_to_others(
    lab: Lab, host: Namespace, owner: Firewall, opened: Callable[..., Firewall]
) -> None:
    lab.run(host, ["nft", "add table inet other"])
    lab.run(host, ["nft", "flush ruleset"])
    assert elements_in(owner) == {port(1)}
    assert lab.run(host, ["nft", "delete table inet linkspan"], check=False).returncode
    with pytest.raises(KernelRefused, match="another process's socket"):
        opened().transaction([Remove(TABLE)])
    with pytest.raises(KernelRefused, match="another process's socket"):
        opened(own=True).claim("inet", TABLE.name)
    assert owner.intact("inet", TABLE.name)


def test_a_table_outlives_its_owner_and_the_next_one_claims_it(
    lab: Lab, host: Namespace, owner: Firewall, opened: Callable[..., Firewall]
) -> None:
    owner.close()
    after = opened(own=True)
    table, elements = after.read("inet", TABLE.name, like=TABLE)
    assert (table, elements) == (TABLE, (port(1),))
    assert after.claim("inet", TABLE.name)
    assert after.claim("inet", TABLE.name)
    assert after.intact("inet", TABLE.name)
    lab.run(host, ["nft", "flush ruleset"])
    after.transaction(added(port(2)))
    assert elements_in(after) == {port(1), port(2)}


def test_an_orphaned_table_is_replaced_without_a_claim(
    lab: Lab, host: Namespace, owner: Firewall, opened: Callable[..., Firewall]
) -> None:
    owner.close()
    after = opened(own=True)
    after.transaction([Add(TABLE), *added(port(2))])
    lab.run(host, ["nft", "flush ruleset"])
    assert elements_in(after) == {port(2)}


def test_without_kernel_support_tables_are_plain(
    lab: Lab, host: Namespace, opened: Callable[..., Firewall]
) -> None:
    firewall = opened(own=True)
    firewall._supports_owner = False  # what a kernel before 6.9 answers
    firewall.transaction([Add(TABLE), *added(port(1))])
    assert not firewall.claim("inet", TABLE.name)
    table, _ = firewall.read("inet", TABLE.name)
    assert table is not None
    assert table.flags == ()
    lab.run(host, ["nft", "flush ruleset"])
    assert not firewall.intact("inet", TABLE.name)
    firewall.transaction([Add(TABLE)])
    assert firewall.intact("inet", TABLE.name)


def test_a_table_made_without_an_owner_cannot_be_claimed_but_replaced(
    opened: Callable[..., Firewall], firewall: Firewall, lab: Lab, host: Namespace
) -> None:
    owner = opened(own=True)
    skip_without_owners(owner)
    assert not owner.claim("inet", TABLE.name)
    assert not owner.claim("inet", "missing")
    assert owner.read("inet", "missing") == (None, ())
    owner.transaction([Add(TABLE)])
    lab.run(host, ["nft", "flush ruleset"])
    assert owner.intact("inet", TABLE.name)


# Packets ------------------------------------------------------------------------------


def test_loaded_maps_translate_real_connections(
    lab: Lab, host: Namespace, firewall: Firewall
) -> None:
    for address in ("127.0.0.1", "::1"):
        lab.listener_tcp(host, address, 80, reply=address)
    assert not lab.fetch(host, "127.0.0.1", 8080, timeout=0.5).ok
    firewall.transaction(
        added(
            port(8080, "127.0.0.1"),
            layout.inet("ranges", "tcp", 79, last=("tcp", 81), data=("127.0.0.1",)),
            layout.inet("ports_at", "127.0.0.9", "tcp", 9000, data=("127.0.0.1", 80)),
        )
    )
    assert lab.fetch(host, "127.0.0.1", 8080).reply == "127.0.0.1"
    assert lab.fetch(host, "127.0.0.3", 80).reply == "127.0.0.1"
    assert lab.fetch(host, "127.0.0.9", 9000).reply == "127.0.0.1"
    assert not lab.fetch(host, "127.0.0.8", 9000, timeout=0.5).ok
