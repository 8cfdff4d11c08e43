"""Rules that ask sets of ipset: what is read holds for the packets that the kernel lets pass."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from lab import Lab, Namespace
from linkspan.analysis import Disposition, Flow, View, trace_flow
from linkspan.dataplane import HOST, DataPlane, Element, Table
from linkspan.dataplane.rules import Concat, Match, Meta, Named, Opaque, Payload
from linkspan.kernel.host import observe_host
from linkspan.kernel.netfilter.ipsetlists import list_sets
from linkspan.kernel.netfilter.iptables import IpSet, read_saved


@pytest.fixture(autouse=True)
def programs(require: Callable[..., None]) -> None:
    require("ipset", "iptables-nft", "iptables-legacy")


def ipset(*lines: str) -> None:
    subprocess.run(["ipset", "restore"], input="\n".join(lines) + "\n", text=True, check=True)


def look() -> DataPlane:
    return observe_host({HOST: None}).plane


def opaque(plane: DataPlane) -> list[Opaque]:
    return [
        statement
        for table in plane.of(Table)
        for chain in table.chains
        for rule in chain.rules
        for statement in rule.statements
        if isinstance(statement, Opaque)
    ]


def test_sets_are_what_ipset_says(home: Namespace) -> None:
    ipset(
        "create a hash:ip family inet", "add a 10.0.0.1", "add a 10.0.0.2",
        "create n hash:net family inet", "add n 10.0.0.0/8", "add n 10.1.0.0/16 nomatch",
        "create p hash:ip,port family inet6", "add p fd00::1,tcp:80", "add p fd00::1,udp:53",
        "create b bitmap:port range 0-1000", "add b 22",
        "create i hash:net,iface", "add i 10.0.0.0/8,eth0",
        "add i 10.0.0.0/8,physdev:eth1",
    )  # fmt: skip
    said = subprocess.check_output(["ipset", "save"], text=True)
    found = list_sets()
    for name, held in found.items():
        assert f"create {name} {held.type} " in said
        lines = [line for line in said.splitlines() if line.startswith(f"add {name} ")]
        assert len(lines) == len(held.entries)
        for entry in held.entries:
            words = [
                *([entry.address] if entry.address else []),
                *(
                    [f"physdev:{entry.link}" if entry.physical else entry.link]
                    if entry.link
                    else []
                ),
            ]
            assert any(
                all(word in line for word in words)
                and (entry.port is None or line.partition(" nomatch")[0].endswith(f"{entry.port}"))
                and ("nomatch" in line) == entry.excluded
                for line in lines
            ), (entry, lines)
    assert set(found) == {"a", "n", "p", "b", "i"}


def test_a_large_set_is_read_whole(home: Namespace) -> None:
    rows = [f"add big 10.{n >> 8}.{n & 255}.1" for n in range(20000)]
    ipset("create big hash:ip maxelem 100000", *rows)
    assert len(list_sets()["big"].entries) == 20000


def test_rules_of_both_iptables_ask_them(home: Namespace) -> None:
    ipset("create bad hash:net", "add bad 192.0.2.0/24", "add bad 192.0.2.128/25 nomatch",
          "create ends hash:ip,port", "add ends 10.0.0.1,tcp:80")  # fmt: skip
    for program in ("iptables-nft", "iptables-legacy"):
        for words in ("-m set --match-set bad src", "-m set ! --match-set bad dst",
                      "-m set --match-set ends dst,dst"):  # fmt: skip
            subprocess.run([program, "-A", "FORWARD", *words.split(), "-j", "DROP"], check=True)
    plane = look()
    tables = {table.origin: table for table in plane.of(Table)}
    assert tables.keys() == {"iptables-nft", "iptables-legacy"}
    for table in tables.values():
        (forward,) = [chain for chain in table.chains if chain.name == "FORWARD"]
        assert [rule.statements[0] for rule in forward.rules] == [
            Match(Payload("ip", "saddr"), Named("bad")),
            Match(Payload("ip", "daddr"), Named("bad"), "!="),
            Match(
                Concat((Payload("ip", "daddr"), Meta("l4proto"), Payload("th", "dport"))),
                Named("ends"),
            ),
        ]
        assert [one.name for one in table.sets] == ["bad", "ends"]
    found = {(one.set, one.first, one.last) for one in plane.of(Element)}
    assert found == {
        ("bad", ("192.0.2.0",), ("192.0.2.127",)), ("ends", ("10.0.0.1", "tcp", 80), None),
    }  # fmt: skip


SETS = (
    "create n hash:net", "add n 10.1.0.0/24", "add n 10.1.0.2/32 nomatch",
    "create p hash:net,port", "add p 10.1.0.0/30,tcp:81", "add p 10.1.0.0/30,udp:80",
)  # fmt: skip


@pytest.mark.parametrize(
    "words", ["-m set --match-set n dst", "-m set ! --match-set n dst",
              "-m set --match-set p dst,dst", "-m set --match-set p src,dst"],
)  # fmt: skip
@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_the_walk_does_what_the_kernel_does(
    home: Namespace, netns: Callable[[str], Namespace], lab: Lab, program: str, words: str
) -> None:
    far = netns("far")
    lab.veth(home, "eth0", "10.1.0.1/24", far, "eth0", "10.1.0.2/24")
    lab.address(far, "eth0", "10.1.0.3/24")
    ipset(*SETS)
    subprocess.run([program, "-A", "OUTPUT", *words.split(), "-j", "REJECT"], check=True)
    for port in (80, 81):
        lab.listener_tcp(far, "0.0.0.0", port, reply="yes")
    seen = observe_host({HOST: None, "far": far.path})
    assert opaque(seen.plane) == []
    view = View(seen.plane, sockets_known=True)
    for address in ("10.1.0.2", "10.1.0.3"):
        for port in (80, 81):
            flow = Flow(destination=address, destination_port=port)
            delivered = trace_flow(view, HOST, flow).first.disposition is Disposition.DELIVERED
            answered = lab.fetch(home, address, port, timeout=1).reply == "yes"
            assert delivered == answered, (address, port)


# Text alone ---------------------------------------------------------------------------

SAVED = """*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -m set --match-set blocked src -j DROP
-A FORWARD -p tcp -m set --match-set kinds src,dst -m tcp --dport 80 -j ACCEPT
COMMIT
"""


@pytest.mark.parametrize(
    "sets",
    [
        {},  # a kernel without sets
        {"blocked": IpSet("blocked", "list:set", "ip", ()),
         "kinds": IpSet("kinds", "hash:ip,something", "ip", ())},
        {"blocked": IpSet("blocked", "hash:ip", "ip", (), masked=True),
         "kinds": IpSet("kinds", "hash:ip,port,ip", "ip", ())},
    ],
)  # fmt: skip
def test_what_is_not_known_of_a_set_is_not_understood(sets: dict[str, IpSet]) -> None:
    (table,) = read_saved(SAVED, "ip", "iptables-legacy", sets=sets)
    first, second = table.chains[0].rules
    assert first.statements[0] == Opaque("-m set --match-set blocked src")
    assert Opaque("-m set --match-set kinds src,dst") in second.statements
    assert table.sets == ()
