"""What this kernel and host offer and lack, and what another firewall would stop.

Looks and tries, and changes nothing: what is tried is tried in a namespace of its own that goes
at once. Works with and without a daemon.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from linkspan.api.obstacles import Stop, describe_place, find_stops
from linkspan.drivers.firewall import TABLES
from linkspan.engine.networks import IPV6_SWITCHES
from linkspan.engine.runtime.programs import SEARCH_PATH, find_programs
from linkspan.errors import LinkspanError
from linkspan.kernel.features import Features, Finding, probe_features, read_setting

OLDEST_KERNEL = (5, 10)
"""The oldest kernel that linkspan is meant for; Debian 11 has it."""

LINK_USES: dict[str, tuple[str, ...]] = {
    "veth": ("bridge",),
    "bridge": ("bridge",),
    "macvlan": ("macvlan",),
    "ipvlan": ("ipvlan",),
    "vxlan": ("overlay",),
    "vlan": ("macvlan and ipvlan on a VLAN that linkspan makes (parent=eth1.20)",),
    "dummy": ("macvlan and ipvlan without a parent",),
    "wireguard": ("encrypted overlay",),
}
"""Which mode of network each kind of link is for; those without a line are not reported."""

ESSENTIAL = ("veth", "bridge")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    `state` is ok, missing (a mode cannot be used), warning (read `advice`), blocked (another
    program's rule stops our packets) or unknown. `needed_by` names what depends on it.
    """

    area: str
    name: str
    state: str
    found: str
    needed_by: list[str] = []
    advice: str = ""
    commands: list[str] = []
    """What to type, where that helps."""


class DoctorView(msgspec.Struct, frozen=True, kw_only=True):
    """All checks. `usable` is whether the modes null, host and bridge can work here."""

    usable: bool
    kernel: str
    checks: list[Check]


def examine_host(interfaces: Sequence[str] = ()) -> DoctorView:
    """Look at the kernel, the host, its programs and its other firewalls. Blocks for some 100 ms.

    `interfaces` are bridges of networks that were given names of their own.
    """
    checks = [*check_rights(), *check_kernel_version()]
    essential_is_there = True
    try:
        features = probe_features(TABLES)
    except LinkspanError as error:
        checks.append(
            Check(
                area="kernel",
                name="network namespaces",
                state="unknown",
                found=error.message,
                needed_by=["everything"],
                advice="run as root: `sudo linkspan doctor`",
            )
        )
        essential_is_there = False
    else:
        checks += check_features(features)
        needed = [*(features.links[kind] for kind in ESSENTIAL), features.firewall]
        essential_is_there = all(finding.present for finding in needed)
    checks += check_host()
    checks += check_user_namespaces()
    checks += check_programs()
    checks += check_firewalls(interfaces)
    return DoctorView(usable=essential_is_there, kernel=platform.release(), checks=checks)


def check_rights() -> Iterator[Check]:
    """Whether this process could be the daemon."""
    root = os.geteuid() == 0
    yield Check(
        area="rights",
        name="root",
        state="ok" if root else "warning",
        found=f"user id {os.geteuid()}",
        needed_by=["the daemon"],
        advice="" if root else "some of this could not be looked at: run `sudo linkspan doctor`",
    )


def check_kernel_version() -> Iterator[Check]:
    """Whether the kernel is one that linkspan is meant for."""
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    old = numbers < OLDEST_KERNEL
    wanted = ".".join(map(str, OLDEST_KERNEL))
    yield Check(
        area="kernel",
        name="version",
        state="warning" if old else "ok",
        found=f"Linux {release}",
        needed_by=["everything"],
        advice=f"linkspan is meant for Linux {wanted} or newer" if old else "",
    )


def check_features(features: Features) -> Iterator[Check]:
    """What was tried in a namespace, with the modes that need it."""
    for kind, uses in LINK_USES.items():
        yield from_finding("kernel", f"{kind} links", features.links[kind], uses)
    yield from_finding(
        "kernel",
        "firewall (nftables)",
        features.firewall,
        ("bridge", "published ports"),
        advice="this kernel lacks a part of nftables that our rules use",
    )
    owner = features.firewall_ownership
    yield Check(
        area="kernel",
        name="firewall tables of one owner",
        state="ok" if owner.present else "warning",
        found="here" if owner.present else owner.detail or "not here",
        needed_by=["protection from another program's flush"],
        advice="" if owner.present else "a flush opens a gap until it is repaired, up to a second",
    )
    yield from_finding("kernel", "IPv6", features.ipv6, ("networks with IPv6 subnets",))
    if features.ipv6.present:
        yield from check_ipv6_switches()
        yield check_forwarding6()
    yield from_finding("kernel", "SCTP", features.sctp, ("programs that use SCTP",))
    yield Check(
        area="kernel",
        name="bridged packets pass the IP hooks",
        state="ok",
        found={"1": "yes", "0": "no"}.get(features.bridge_hooks or "", "no (no br_netfilter)"),
        needed_by=["nothing: the rules are right either way"],
    )


def check_ipv6_switches() -> Iterator[Check]:
    """Whether this host has IPv6 switched off, where new interfaces are concerned."""
    for path in IPV6_SWITCHES:
        if read_setting(path) == "1":
            name = f"net.{path.replace('/', '.')}"
            yield Check(
                area="host",
                name="IPv6",
                state="missing",
                found=f"{name} is 1",
                needed_by=["networks with IPv6 subnets"],
                advice="switch it on:",
                commands=[f"sysctl -w {name}=0"],
            )


def check_forwarding6() -> Check:
    """Whether single interfaces can forward IPv6, or only all of them."""
    single = os.path.exists("/proc/sys/net/ipv6/conf/all/force_forwarding")
    return Check(
        area="kernel",
        name="IPv6 forwarding by interface",
        state="ok" if single else "warning",
        found="here" if single else "not here (Linux 6.17 has it)",
        needed_by=["networks with IPv6 subnets"],
        advice=""
        if single
        else "the first of them switches net.ipv6.conf.all.forwarding on; uplinks go on taking "
        "router advertisements, and nothing else is forwarded",
    )


def from_finding(
    area: str, name: str, finding: Finding, uses: tuple[str, ...], advice: str = ""
) -> Check:
    """A feature that is there or not."""
    state = {True: "ok", False: "missing", None: "unknown"}[finding.present]
    missing = f"not here: {finding.detail}" if finding.detail else "not here"
    found = "here" if finding.present else missing
    return Check(
        area=area,
        name=name,
        state=state,
        found=found,
        needed_by=list(uses),
        advice="" if finding.present else advice,
    )


def check_host() -> Iterator[Check]:
    """Control groups, overlay file system, user namespaces."""
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    mounted = os.path.isdir("/sys/fs/cgroup") and bool(os.listdir("/sys/fs/cgroup"))
    yield Check(
        area="host",
        name="control groups",
        state="ok" if unified or mounted else "warning",
        found="version 2" if unified else "version 1 or hybrid" if mounted else "not mounted",
        needed_by=["linkspan run"],
        advice="" if unified or mounted else "containers run without groups of their own",
    )
    with open("/proc/filesystems") as file:
        overlay = any(line.split()[-1] == "overlay" for line in file if line.strip())
    yield Check(
        area="host",
        name="overlay file system",
        state="ok" if overlay else "missing",
        found="here" if overlay else "not here",
        needed_by=["linkspan run without --rootfs"],
        advice="" if overlay else "try `modprobe overlay`, or give containers a --rootfs",
    )


def check_user_namespaces() -> Iterator[Check]:
    """Whether people other than root can have namespaces of their own, to try things in."""
    settings = {
        name: read_number(f"/proc/sys/{name}")
        for name in ("user/max_user_namespaces", "kernel/unprivileged_userns_clone")
    }
    closed = [name for name, value in settings.items() if value == 0]
    unknown = settings["user/max_user_namespaces"] is None
    yield Check(
        area="host",
        name="user namespaces",
        state="missing" if closed or unknown else "ok",
        found="not here" if unknown else f"{closed[0]} is 0" if closed else "here",
        needed_by=["trying linkspan without root"],
    )


def read_number(path: str) -> int | None:
    """The number that a file holds; None if there is no such file."""
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def check_programs() -> Iterator[Check]:
    """The programs that `linkspan run` starts containers with."""
    try:
        programs = find_programs()
    except LinkspanError as error:
        yield Check(
            area="programs",
            name="runc or crun, and conmon",
            state="missing",
            found=error.message,
            needed_by=["linkspan run"],
            advice="on Debian: `apt install runc conmon`",
        )
    else:
        yield Check(
            area="programs",
            name="runc or crun, and conmon",
            state="ok",
            found=f"{programs.runtime}, {programs.conmon}",
            needed_by=["linkspan run"],
        )
    nft = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{SEARCH_PATH}")
    yield Check(
        area="programs",
        name="nft",
        state="ok" if nft else "warning",
        found=nft or "not installed",
        needed_by=["reading other programs' firewall rules"],
        advice="" if nft else "on Debian: `apt install nftables`",
    )


def check_names(unanswered: Mapping[str, str]) -> list[Check]:
    """Sandboxes whose questions for names nobody answers, by name with the reason."""
    return [
        Check(
            area="daemon",
            name=f"names in {name}",
            state="warning",
            found=f"nobody answers its questions for names: {why}",
            needed_by=[f"name look-ups in {name}"],
            advice="to start the names process again and set everything up anew:",
            commands=["linkspan reconcile"],
        )
        for name, why in sorted(unanswered.items())
    ]


def check_firewalls(interfaces: Sequence[str]) -> Iterator[Check]:
    """Other programs' rules that stop packets of our networks, each with the way out."""
    try:
        stops = find_stops(interfaces)
    except LinkspanError as error:
        yield Check(
            area="firewall",
            name="rules of others",
            state="unknown",
            found=error.message,
            needed_by=["bridge"],
            advice="run as root: `sudo linkspan doctor`" if os.geteuid() else "",
        )
        return
    for stop in stops:
        yield describe_stop(stop)
    if not stops:
        yield Check(
            area="firewall", name="rules of others", state="ok", found="none stops our packets"
        )


def describe_stop(stop: Stop) -> Check:
    """One rule that stops our packets."""
    what = "stops" if stop.sure else "may stop"
    return Check(
        area="firewall",
        name=describe_place(stop.obstacle),
        state="blocked" if stop.sure else "warning",
        found=f"{stop.obstacle.text}: {what} packets of our networks",
        needed_by=["bridge", "published ports"],
        advice="to let ours pass (our own table still decides what may):",
        commands=list(stop.fix),
    )
