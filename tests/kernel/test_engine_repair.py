"""What others break is put right, unasked; what a reboot or a full disk takes is handled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import DaemonDied, Lab, Namespace, Refused
from lab.processes import wait_until
from lab.site import HOST, Site
from linkspan.engine.engine import Engine
from linkspan.engine.host import KernelHost
from linkspan.engine.requests import NetworkRequest, SandboxRequest
from linkspan.engine.settings import Settings
from linkspan.kernel.netfilter.firewall import Firewall


@pytest.fixture
def site(lab: Lab) -> Site:
    site = Site(lab)
    site.network("web", "10.20.0.0/24")
    return site


@pytest.fixture
def shop(site: Site) -> Any:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    site.serve(shop, 80)
    assert answers(site)
    return shop


def answers(site: Site, timeout: float = 1.0) -> bool:
    return site.lab.fetch(site.neighbour, HOST, 8080, timeout=timeout).ok


def setting(site: Site, path: str) -> str:
    return site.lab.run(site.host, f"cat /proc/sys/net/{path}").stdout.strip()


def set_setting(site: Site, path: str, value: str) -> None:
    site.lab.run(site.host, ["sh", "-c", f"echo {value} > /proc/sys/net/{path}"])


def host_link(site: Site, name: str) -> str:
    (endpoint,) = site.daemon.get(f"/v1/sandboxes/{name}")["endpoints"]
    return str(endpoint["host_interface"])


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def repaired(site: Site) -> list[Any]:
    events = site.daemon.stream("/v1/events?since=0&follow=false")
    return [e for e in events if e["action"] == "repaired"]


def test_a_deleted_bridge_comes_back_with_its_ports(site: Site, shop: Any) -> None:
    bridge = site.daemon.get("/v1/networks/web")["interface"]
    site.lab.run(site.host, f"ip link delete {bridge}")
    wait_until(lambda: answers(site, 0.2), "the published port to answer again", 3)
    wait_until(lambda: repaired(site), "the event", 3)


def test_attaching_while_the_bridge_is_deleted_works_or_says_why(site: Site) -> None:
    bridge = site.daemon.get("/v1/networks/web")["interface"]
    told = []
    for number in range(20):
        site.lab.run(site.host, f"ip link delete {bridge}")
        try:
            site.sandbox(f"late{number}", "web")
        except Refused as error:
            told.append(error)
        wait_until(
            lambda: not site.lab.run(site.host, f"ip link show {bridge}", check=False).returncode,
            "the bridge to be there again",
        )
    assert all(error.status == 409 and "has vanished" in str(error) for error in told), told


def test_a_deleted_endpoint_comes_back(site: Site, shop: Any) -> None:
    site.lab.run(site.host, f"ip link delete {host_link(site, 'shop')}")
    wait_until(lambda: answers(site, 0.2), "the published port to answer again", 3)
    site.lab.run(site.host, f"ip link set {host_link(site, 'shop')} down")
    wait_until(lambda: answers(site, 0.2), "it to answer again after it was set down", 3)
    site.lab.run(shop["netns"], "ip link delete eth0")
    wait_until(lambda: answers(site, 0.2), "it to answer again after a deletion inside", 3)


def test_what_is_missing_inside_is_repaired_on_demand_and_more_is_left_alone(
    site: Site, shop: Any
) -> None:
    site.lab.run(shop["netns"], "ip route delete default")
    site.lab.run(shop["netns"], "ip link set lo down")
    site.lab.run(shop["netns"], "ip address add 203.0.113.1/32 dev eth0")
    report = site.daemon.post("/v1/reconcile")
    assert report["failed"] == report["removed"] == report["gone"] == []
    assert "default route" in report["added"][0]
    assert answers(site)
    assert "203.0.113.1" in site.lab.run(shop["netns"], "ip address").stdout
    assert not any(site.daemon.post("/v1/reconcile").values())


def test_settings_that_somebody_flips_come_back(site: Site, shop: Any) -> None:
    bridge = site.daemon.get("/v1/networks/web")["interface"]
    for path in (f"ipv4/conf/{bridge}/forwarding", "ipv4/conf/uplink/forwarding"):
        set_setting(site, path, "0")
        wait_until(lambda path=path: setting(site, path) == "1", f"{path} to be 1 again", 3)
    assert answers(site)


def test_it_never_forwards_for_strangers_unless_the_host_is_a_router(site: Site, shop: Any) -> None:
    beyond = site.lab.namespace("beyond")
    site.lab.veth(*(site.host, "second", "198.51.100.1/24"), *(beyond, "eth0", "198.51.100.2/24"))
    site.lab.route(beyond, "default", "via", "198.51.100.1")
    site.lab.route(site.neighbour, "198.51.100.0/24", "via", HOST)
    site.lab.listener_tcp(beyond, "198.51.100.2", 80)
    wait_until(
        lambda: setting(site, "ipv4/conf/second/forwarding") == "1", "the new uplink to forward", 3
    )

    def reaches() -> bool:
        return site.lab.fetch(site.neighbour, "198.51.100.2", 80, timeout=0.3).ok

    def uplinks() -> str:
        return site.lab.run(site.host, "nft list set inet linkspan uplinks").stdout

    assert setting(site, "ipv4/ip_forward") == "0"
    assert not reaches()
    # Somebody makes the host a router: that is theirs to decide, and nothing is guarded.
    set_setting(site, "ipv4/ip_forward", "1")
    wait_until(lambda: "uplink" not in uplinks().split("{")[-1], "the guard to go", 3)
    assert reaches()
    # And takes it back, which switches forwarding off everywhere.
    set_setting(site, "ipv4/ip_forward", "0")
    wait_until(lambda: answers(site, 0.2), "the published port to answer again", 3)
    assert not reaches()
    assert setting(site, "ipv4/ip_forward") == "0"


def test_guards_survive_a_flush_while_no_daemon_lives(site: Site, shop: Any) -> None:
    site.daemon.kill()
    site.lab.run(site.host, "nft flush ruleset")
    assert setting(site, "ipv4/conf/uplink/forwarding") == "1"
    site.daemon.start()
    assert answers(site)
    assert '"uplink"' in site.lab.run(site.host, "nft list set inet linkspan uplinks").stdout


def test_a_flush_by_somebody_else_misses_us(site: Site, shop: Any) -> None:
    site.lab.run(site.host, "nft flush ruleset")
    assert answers(site)
    assert not any(site.daemon.post("/v1/reconcile").values())


def test_a_namespace_of_ours_that_was_deleted_is_made_again(site: Site) -> None:
    sandbox = site.sandbox("bare", "web")
    path = sandbox["netns"]
    subprocess.run(["umount", "--lazy", path], check=True)
    os.unlink(path)
    wait_until(lambda: os.path.exists(path), "the namespace to be made again", 6)
    wait_until(
        lambda: site.lab.run(path, "ip -4 -br address show eth0", check=False).stdout.endswith(
            f"{sandbox['endpoints'][0]['ipv4']} \n"
        ),
        "its address to be there again",
        3,
    )
    assert not any(site.daemon.post("/v1/reconcile").values())


def test_after_a_reboot_networks_and_bare_sandboxes_are_as_before(site: Site) -> None:
    site.sandbox("bare", {"network": "web", "ip": "10.20.0.9"}, ports=("8080:80",))
    brought = site.lab.namespace("brought")
    site.sandbox("ctr7", "web", netns=brought.path)
    site.daemon.stop()
    # A new boot: nothing of ours in the kernel, and /run is empty.
    for path in (site.daemon.run_dir / "netns").iterdir():
        subprocess.run(["umount", "--lazy", str(path)], check=True)
    shutil.rmtree(site.daemon.run_dir)
    subprocess.run(["ip", "netns", "delete", brought.name], check=True)
    site.lab.run(site.host, "nft flush ruleset")
    for link in json.loads(site.lab.run(site.host, "ip -j link").stdout):
        if link["ifname"] == "linkspan0" or link["ifname"].startswith("ls-"):
            site.lab.run(site.host, f"ip link delete {link['ifname']}")
    set_setting(site, "ipv4/conf/uplink/forwarding", "0")
    site.daemon.start()
    states = {s["name"]: s["state"] for s in site.daemon.get("/v1/sandboxes")}
    assert states == {"bare": "up", "ctr7": "gone"}
    site.serve(site.daemon.get("/v1/sandboxes/bare"), 80)
    assert answers(site)


def test_a_full_disk_is_said_clearly_and_changes_nothing(lab: Lab) -> None:
    site = Site(lab)
    site.network("web", "10.20.0.0/24")
    site.daemon.stop()
    small = lab.directory / "small"
    shutil.copytree(site.daemon.state_dir, lab.directory / "copy")
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", str(small)], check=True)
    try:
        shutil.copytree(lab.directory / "copy", small, dirs_exist_ok=True)
        site.daemon.state_dir = small
        site.daemon.start()
        before = json.loads(lab.run(site.host, "ip -j link").stdout)
        fill(small / "filler")
        refused = None
        for number in range(200):  # what is left in the last pages of the log goes first
            try:
                site.daemon.post("/v1/sandboxes", {"name": f"s{number}", "networks": ["web"]})
                site.daemon.delete(f"/v1/sandboxes/s{number}")
            except Refused as error:
                refused = error
                break
        assert refused is not None
        assert (refused.status, refused.code) == (507, "storage")
        assert str(small) in refused.message
        (small / "filler").unlink()
        for sandbox in site.daemon.get("/v1/sandboxes"):
            site.daemon.delete(f"/v1/sandboxes/{sandbox['name']}")
        after = json.loads(lab.run(site.host, "ip -j link").stdout)
        assert [link["ifname"] for link in after] == [link["ifname"] for link in before]
        assert site.sandbox("shop", "web")["state"] == "up"
        site.daemon.purge()
        site.daemon.stop()
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_one_daemon_a_namespace_and_one_a_state_folder(site: Site) -> None:
    second = site.lab.daemon(site.host, start=False)
    with pytest.raises(DaemonDied, match=rf"already.*{site.daemon.pid}"):
        second.start()
    elsewhere = site.lab.namespace("elsewhere")
    third = site.lab.daemon(elsewhere, start=False)
    third.state_dir = site.daemon.state_dir
    with pytest.raises(DaemonDied, match="in use by another"):
        third.start()


def test_purge_leaves_the_host_as_it_was(site: Site, shop: Any) -> None:
    plan = site.daemon.post("/v1/purge?dry_run=true")["plan"]
    assert any("veth pair" in step["text"] for step in plan)
    assert answers(site)
    site.daemon.purge()
    assert site.daemon.process is not None
    assert site.daemon.process.wait(10) == 0
    links = [link["ifname"] for link in json.loads(site.lab.run(site.host, "ip -j link").stdout)]
    assert links == ["lo", "uplink"]
    assert site.lab.run(site.host, "nft list ruleset").stdout == ""
    assert setting(site, "ipv4/conf/uplink/forwarding") == "0"
    left = [*site.daemon.state_dir.rglob("*"), *site.daemon.run_dir.rglob("*")]
    assert left == []


# Without ownership of tables (kernels before 6.9) anybody can change them.


class Place:
    """An engine in this process, whose firewall belongs to nobody."""

    def __init__(self, directory: Path) -> None:
        self.settings = Settings(state_dir=f"{directory}/state", run_dir=f"{directory}/run")

    async def open(self) -> Engine:
        host = KernelHost(self.settings.run_dir)
        host._kernel._firewall = Firewall(own=False)
        return await Engine.open(self.settings, host)


@pytest.fixture
def place(home: Namespace, tmp_path: Path, run_dir: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    for path in (tmp_path / "run" / "netns").glob("*"):
        subprocess.run(["umount", "--lazy", str(path)], check=False)


def ruleset() -> list[str]:
    """What nft prints, without the order of elements."""
    done = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True)
    return sorted(re.split(r"[,\n]\s*|elements = \{\s*|\s*\}", done.stdout))


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table inet linkspan",
        "flush chain inet linkspan forward",
        "flush set bridge linkspan macs",
        "add rule inet linkspan forward accept",
    ],
)
def test_a_table_that_others_change_is_rebuilt_within_a_second(place: Place, damage: str) -> None:
    async def talk() -> None:
        engine = await place.open()
        try:
            await engine.create_network(NetworkRequest(name="web", subnets=["10.20.0.0/24"]))
            await engine.create_sandbox(
                SandboxRequest(
                    name="shop", networks=["web"], ports=["8080:80", "1000-2000:1000-2000"]
                )
            )
            whole = await asyncio.to_thread(ruleset)
            await asyncio.to_thread(subprocess.run, ["nft", damage], check=True)
            broken = time.monotonic()
            while await asyncio.to_thread(ruleset) != whole:
                assert time.monotonic() < broken + 1, "not rebuilt within a second"
                await asyncio.sleep(0.01)
            # That it was broken at all is seen by the event of its repair.
            events = engine.events.subscribe(0)
            async for event in events:
                if event.type == "firewall":
                    assert event.action == "repaired"
                    assert event.attributes["process"] == "nft"
                    break
            events.close()
            assert not await engine.reconcile()
            await engine.purge()
        finally:
            await engine.close()

    asyncio.run(asyncio.wait_for(talk(), 20))
