"""Random iptables rulesets, as text for iptables-restore, in both variants."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from walks.rulesets import PORTS
from walks.topology import HOST, Topology

_IN = ("PREROUTING", "INPUT", "FORWARD")
_OUT = ("FORWARD", "OUTPUT", "POSTROUTING")
_STATES = ("NEW", "RELATED,ESTABLISHED", "INVALID", "NEW,ESTABLISHED", "DNAT", "UNTRACKED")
_CHAINS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


@dataclass(frozen=True)
class Saved:
    """What one iptables-restore is given. `rules` are (table, line) in order."""

    namespace: str
    variant: str
    """nft or legacy"""
    version: int
    policies: tuple[tuple[str, str, str], ...]
    """table, chain, policy"""
    rules: tuple[tuple[str, str], ...]

    @property
    def program(self) -> str:
        return f"{'iptables' if self.version == 4 else 'ip6tables'}-{self.variant}-restore"

    @property
    def text(self) -> str:
        lines = []
        for table in dict.fromkeys(table for table, _, _ in self.policies):
            lines.append(f"*{table}")
            lines += [
                f":{chain} {policy} [0:0]" for t, chain, policy in self.policies if t == table
            ]
            lines += [line for t, line in self.rules if t == table]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n"

    def without(self, place: int) -> Saved:
        """The same with a rule less."""
        return replace(self, rules=self.rules[:place] + self.rules[place + 1 :])


class Scribe:
    """Writes the rules of one namespace."""

    def __init__(self, rng: random.Random, world: Topology, namespace: str) -> None:
        self.rng = rng
        self.world = world
        self.namespace = namespace

    def write(self) -> Saved:
        rng = self.rng
        policies: list[tuple[str, str, str]] = []
        rules: list[tuple[str, str]] = []
        for table in ("raw", "mangle", "nat", "filter"):
            if rng.random() > {"raw": 0.2, "mangle": 0.35, "nat": 0.7, "filter": 0.8}[table]:
                continue
            own = [f"OWN{n}" for n in range(rng.randint(0, 2))]
            for chain in _CHAINS[table]:
                drops = table in ("filter", "mangle") and rng.random() < 0.08
                policies.append((table, chain, "DROP" if drops else "ACCEPT"))
            policies += [(table, name, "-") for name in own]
            for chain in _CHAINS[table]:
                for _ in range(rng.choice((0, 1, 1, 2, 3))):
                    rules.append((table, self._rule(table, chain, chain, own)))
            for place, name in enumerate(own):
                hook = ""
                for _ in range(rng.randint(1, 3)):
                    rules.append((table, self._rule(table, name, hook, own[place + 1 :])))
        return Saved(
            self.namespace, rng.choice(("nft", "legacy")), self.world.version,
            tuple(policies), tuple(rules),
        )  # fmt: skip

    # Words ----------------------------------------------------------------------------

    def _net(self) -> str:
        return self.rng.choice([*self.world.subnets, *self.world.everything()])

    def _rule(self, table: str, chain: str, hook: str, own: list[str]) -> str:
        rng = self.rng
        protocol = rng.choice(("tcp", "tcp", "udp", "icmp", None, None))
        words = [f"-A {chain}"]
        if protocol == "icmp" and self.world.version == 6:
            protocol = "ipv6-icmp"
        if protocol:
            words.append(f"-p {protocol}")
        for _ in range(rng.choice((0, 1, 1, 2))):
            words.append(self._match(hook, protocol, words))
        words.append(self._target(table, hook, protocol, own))
        return " ".join(word for word in words if word)

    def _match(self, hook: str, protocol: str | None, before: list[str]) -> str:
        rng = self.rng
        no = rng.choice(("", "", "! "))
        choices = [
            f"{no}-s {self._net()}", f"{no}-d {self._net()}",
            f"-m conntrack {no}--ctstate {rng.choice(_STATES)}",
            f"-m addrtype {no}--dst-type {rng.choice(('LOCAL', 'UNICAST'))}",
            f"-m addrtype {no}--src-type LOCAL",
            f"-m mark {no}--mark {rng.choice(('0x0', '0x1', '0x1/0x3', '0x0/0x3'))}",
            f"-m connmark {no}--mark {rng.choice(('0x0', '0x5', '0x1/0xff'))}",
            f"-m conntrack --ctdir {rng.choice(('ORIGINAL', 'REPLY'))}",
            f"-m conntrack {no}--ctorigdstport {rng.choice(PORTS)}",
            f"-m conntrack {no}--ctorigdst {rng.choice(self.world.everything())}",
            '-m comment --comment "it\'s"',
            "-m limit --limit 1/hour --limit-burst 1",
            "-m statistic --mode random --probability 0.5",
            "-m statistic --mode nth --every 2 --packet 0",
            "-m pkttype --pkt-type unicast",
            f"-m iprange {no}--src-range {'-'.join(self._span())}",
            f"-m iprange {no}--dst-range {'-'.join(self._span())}",
        ]  # fmt: skip
        if hook in _IN or not hook:
            links = self.world.links[self.namespace]
            choices += [f"{no}-i {rng.choice((*links, 'br+', 'eth+'))}"] * 3
        if hook in _IN:
            choices.append(f"-m mac {no}--mac-source 02:00:00:00:14:0{rng.choice('234')}")
        if hook in _OUT:
            links = self.world.links[self.namespace]
            choices += [f"{no}-o {rng.choice((*links, 'br+', 'eth+'))}"] * 3
        if hook in ("OUTPUT", "POSTROUTING"):
            choices.append(f"-m owner {no}--uid-owner {rng.choice((0, 1000))}")
        if protocol in ("tcp", "udp"):
            port = rng.choice(PORTS)
            choices += [f"{no}--dport {port}"] * 4
            choices += [f"--dport {rng.choice((':100', '8000:', '80:8080'))}",
                        f"-m multiport {no}--dports 80,8000:8080", f"{no}--sport 1024:65535",
                        f"-m multiport {no}--ports {port},9"]  # fmt: skip
        if protocol == "tcp":
            if not any("--syn" in word or "--tcp-flags" in word for word in before):
                choices += [f"{no}--syn", f"{no}--tcp-flags SYN,ACK SYN"]
        if protocol == "icmp":
            choices += [
                f"{no}--icmp-type {rng.choice(('echo-request', 'echo-reply', '8/0', 'any'))}"
            ]
        if protocol == "ipv6-icmp":
            choices += [f"{no}--icmpv6-type {rng.choice(('echo-request', 'echo-reply'))}"]
        taken = " ".join(before)
        free = [
            one for one in choices
            if not any(
                f" {option}" in f" {taken}"
                for option in one.split() if option.startswith("-") and option != "-m"
            )
            and not (one.startswith("-m") and f" {' '.join(one.split()[:2])} " in f" {taken} ")
        ]  # fmt: skip
        if "any" in taken or "multiport" in taken:
            free = choices[:2]
        return rng.choice([one for one in free if not one.startswith("! --icmp-type any")] or [""])

    def _span(self) -> tuple[str, str]:
        net = self.rng.choice(self.world.subnets).partition("/")[0]
        if self.world.version == 4:
            return net[:-1] + "2", net[:-1] + self.rng.choice(("2", "9", "150"))
        return f"{net}2", f"{net}{self.rng.choice(('2', '9', '150'))}"

    def _target(self, table: str, hook: str, protocol: str | None, own: list[str]) -> str:
        rng = self.rng
        with_ports = protocol in ("tcp", "udp")
        if own and rng.random() < 0.2:
            return f"{rng.choice(('-j', '-j', '-g'))} {rng.choice(own)}"
        if table == "nat":
            return self._translation(hook, with_ports)
        roll = rng.random()
        if table == "raw" and roll < 0.4:
            return "-j CT --notrack"
        if table == "mangle" and roll < 0.6:
            return rng.choice((
                "-j MARK --set-mark 1", "-j MARK --set-xmark 0x2/0x3", "-j MARK --or-mark 0x10",
                "-j MARK --and-mark 0xf0", "-j CONNMARK --set-mark 5", "-j CONNMARK --save-mark",
                "-j CONNMARK --restore-mark", "-j CONNMARK --set-xmark 0x1/0xff",
            ))  # fmt: skip
        if table == "filter" and roll < 0.2:
            kinds = ["icmp-port-unreachable", "icmp-admin-prohibited", "icmp-host-unreachable"]
            if self.world.version == 6:
                kinds = ["icmp6-port-unreachable", "icmp6-adm-prohibited", "icmp6-no-route"]
            if protocol == "tcp":
                kinds.append("tcp-reset")
            return f"-j REJECT --reject-with {rng.choice(kinds)}"
        if roll < 0.25:
            return '-j LOG --log-prefix "seen "'
        return f"-j {rng.choice(('ACCEPT', 'ACCEPT', 'ACCEPT', 'DROP', 'DROP', 'RETURN'))}"

    def _translation(self, hook: str, with_ports: bool) -> str:
        rng = self.rng
        if self.rng.random() < 0.15 or not hook:
            return f"-j {rng.choice(('ACCEPT', 'RETURN'))}"
        to = rng.choice([a for a in self.world.everything() if a not in ("127.0.0.1", "::1")])
        own = [a for a in self.world.own(self.namespace) if a not in ("127.0.0.1", "::1")]
        end = f"[{to}]" if self.world.version == 6 else to
        if hook in ("PREROUTING", "OUTPUT"):
            if with_ports and rng.random() < 0.6:
                return rng.choice((
                    f"-j DNAT --to-destination {end}:{rng.choice(PORTS)}",
                    f"-j DNAT --to-destination {end}:80-81",
                    f"-j REDIRECT --to-ports {rng.choice(PORTS)}",
                    "-j REDIRECT --to-ports 80-81",
                ))  # fmt: skip
            return rng.choice((
                f"-j DNAT --to-destination {to}", "-j REDIRECT",
                f"-j DNAT --to-destination {'-'.join(self._span())}",
            ))  # fmt: skip
        if hook == "POSTROUTING" and rng.random() < 0.5:
            ports = " --to-ports 40000-40100" if with_ports and rng.random() < 0.4 else ""
            return f"-j MASQUERADE{ports}{rng.choice(('', '', ' --random-fully'))}"
        if not own:
            return "-j ACCEPT"
        return f"-j SNAT --to-source {rng.choice(own)}"


def make_iptables(rng: random.Random, world: Topology) -> list[Saved]:
    """Rulesets of the host and of some of the others."""
    found = []
    for name in world.namespaces:
        if rng.random() < (0.5 if name == HOST else 0.12):
            saved = Scribe(rng, world, name).write()
            if saved.policies:
                found.append(saved)
    return found
