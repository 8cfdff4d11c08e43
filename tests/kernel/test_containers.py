"""Containers on networks: real programs in real namespaces, through a daemon that may die."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Refused
from lab.reuse import Sites
from lab.site import HOST, Site
from linkspan.engine.runtime import AttachClient

pytestmark = pytest.mark.usefixtures("programs")

SERVE = (
    "import socket,sys; s=socket.create_server(('', 80)); print('ready', flush=True)\n"
    "while True:\n c=s.accept()[0]; c.sendall(b'shop'); c.close()"
)


@pytest.fixture
def programs(require: Callable[..., None]) -> None:
    require("runc", "conmon")


@pytest.fixture
def site(sites: Sites) -> Iterator[Site]:
    with sites.borrowed() as site:
        site.network("web", "10.20.0.0/24")
        yield site


def create(site: Site, *command: str, **fields: Any) -> Any:
    body = {"name": "shop", "command": list(command), "networks": ["web"], **fields}
    return site.daemon.post("/v1/containers", body)


def start(site: Site, *command: str, **fields: Any) -> Any:
    made = create(site, *command, **fields)
    return site.daemon.post(f"/v1/containers/{made['id']}/start")


def wait(site: Site, name: str = "shop") -> int:
    code: int = site.daemon.post(f"/v1/containers/{name}/wait")["exit_code"]
    return code


def output(site: Site, name: str = "shop") -> str:
    return "".join(line["text"] for line in site.daemon.stream(f"/v1/containers/{name}/logs"))


def until_output(site: Site, wanted: str, name: str = "shop", times: int = 1) -> None:
    """Return once the container has written this so many times, in all its lives."""
    for line in site.daemon.stream(f"/v1/containers/{name}/logs?follow=true"):
        times -= wanted in line["text"]
        if not times:
            return
    raise AssertionError(f"{name} never wrote {wanted!r}")


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def show(site: Site, name: str = "shop") -> Any:
    return site.daemon.get(f"/v1/sandboxes/{name}")


def run(site: Site, *command: str, **fields: Any) -> tuple[int, str]:
    start(site, *command, **fields)
    code = wait(site)
    text = output(site)
    site.daemon.delete("/v1/sandboxes/shop")
    return code, text


def test_it_has_its_network_when_its_program_begins(site: Site) -> None:
    script = (
        "hostname; ip -o -4 address show dev eth0; ip route; cat /etc/hosts; "
        "ping -c1 -W2 10.20.0.1 >/dev/null && echo reached; exit 3"
    )
    code, text = run(site, "sh", "-c", script, hostname="till")
    assert code == 3
    assert text.splitlines()[0] == "till"
    assert "10.20.0.2/24" in text
    assert "default via 10.20.0.1 dev eth0" in text
    assert "10.20.0.2\ttill" in text
    assert "127.0.0.1\tlocalhost" in text
    assert "reached" in text


def test_without_a_name_it_is_called_by_its_short_id(site: Site) -> None:
    made = start(site, "hostname")
    wait(site)
    assert output(site).strip() == made["id"][:12]


def test_network_none_has_loopback_alone(site: Site) -> None:
    code, text = run(site, "sh", "-c", "ls /sys/class/net; ip -br address", networks=["none"])
    assert (code, text.splitlines()[0]) == (0, "lo")
    assert text.count("\n") == 2
    assert "127.0.0.1/8" in text


def test_network_host_is_the_daemons_own_and_cannot_be_changed(site: Site) -> None:
    script = "hostname; ip -br address; cat /etc/resolv.conf; ip link add dummy type bridge"
    code, text = run(site, "sh", "-c", script, networks=["host"])
    assert code != 0
    assert text.splitlines()[0] == socket.gethostname()
    assert f"{HOST}/24" in text
    assert "Operation not permitted" in text
    assert Path("/etc/resolv.conf").read_text().strip() in text


def test_its_published_port_answers_and_is_free_again_when_it_ends(site: Site) -> None:
    start(site, "python3", "-c", SERVE, ports=["8080:80"])
    until_output(site, "ready")
    assert site.lab.fetch(site.neighbour, HOST, 8080).reply == "shop"
    site.daemon.post("/v1/containers/shop/stop?timeout=0")
    ended = show(site)
    assert ended["state"] == "exited"
    assert ended["container"]["exit_code"] == 137
    assert not site.lab.fetch(site.neighbour, HOST, 8080, timeout=0.5).ok
    other = create(site, "true", name="other", ports=["8080:80"])
    assert other["endpoints"][0]["ipv4"] == "10.20.0.3/24"
    with pytest.raises(Refused, match=r"port 8080/tcp on .* is already published by other"):
        site.daemon.post("/v1/containers/shop/start")
    site.daemon.delete("/v1/sandboxes/other")
    again = site.daemon.post("/v1/containers/shop/start")
    until_output(site, "ready", times=2)
    assert again["state"] == "up"
    assert site.lab.fetch(site.neighbour, HOST, 8080).reply == "shop"


def test_a_fixed_address_stays(site: Site) -> None:
    start(site, "sleep", "60", networks=[{"network": "web", "ip": "10.20.0.77"}])
    site.daemon.post("/v1/containers/shop/stop?timeout=0")
    again = site.daemon.post("/v1/containers/shop/start")
    assert again["endpoints"][0]["ipv4"] == "10.20.0.77/24"


def test_stop_gives_it_time(site: Site) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    start(site, "sh", "-c", script)
    until_output(site, "ready")
    site.daemon.post("/v1/containers/shop/stop?timeout=10")
    assert show(site)["container"]["exit_code"] == 0
    assert output(site).endswith("bye\n")


def test_one_that_cannot_be_run_leaves_nothing(site: Site) -> None:
    for fields, said in (
        ({"command": ["/no/such/program"]}, "no/such/program"),
        ({"user": "nobody-here"}, "nobody-here"),
        ({"rootfs": "/no/such/folder"}, "no/such/folder"),
    ):
        with pytest.raises(Refused, match=said):
            start(site, **{"command": ["true"], "remove": True, **fields})
        assert site.daemon.get("/v1/sandboxes") == []
    assert os.listdir(site.daemon.run_dir / "netns") == []
    assert os.listdir(site.daemon.state_dir / "containers") == []
    assert create(site, "true")["endpoints"][0]["interface"] == "eth0"


def test_a_policy_begins_it_again_with_the_same_network(site: Site) -> None:
    made = start(site, "sh", "-c", "echo once; exit 1", restart="on-failure:2")
    until(lambda: show(site)["container"]["status"] == "exited")
    ended = show(site)
    assert ended["container"]["restart_count"] == 2
    assert output(site).count("once") == 3
    assert made["endpoints"][0]["ipv4"] == "10.20.0.2/24"
    assert create(site, "true", name="other")["endpoints"][0]["ipv4"] == "10.20.0.3/24"


def test_a_new_network_shows_in_its_hosts_file(site: Site) -> None:
    site.network("back", "10.30.0.0/24")
    script = "echo ready; while ! grep -q 10.30.0.2 /etc/hosts; do sleep 0.05; done; cat /etc/hosts"
    start(site, "sh", "-c", script, hostname="till")
    until_output(site, "ready")
    site.daemon.post("/v1/sandboxes/shop/networks", {"network": "back"})
    assert wait(site) == 0
    assert "10.20.0.2\ttill\n10.30.0.2\ttill\n" in output(site)


# The daemon's own death


def test_it_outlives_the_daemon_and_is_watched_again(site: Site) -> None:
    start(site, "python3", "-c", SERVE, ports=["8080:80"])
    until_output(site, "ready")
    site.daemon.kill()
    assert site.lab.fetch(site.neighbour, HOST, 8080).reply == "shop"
    site.daemon.start()
    assert show(site)["container"]["status"] == "running"
    assert site.lab.fetch(site.neighbour, HOST, 8080).reply == "shop"
    site.daemon.post("/v1/containers/shop/kill?signal=TERM")
    site.daemon.post("/v1/containers/shop/kill?signal=KILL")
    assert wait(site) == 137
    assert show(site)["state"] == "exited"


def test_what_ended_while_no_daemon_was_there_is_known_afterwards(
    site: Site, tmp_path: Path
) -> None:
    script = "echo ready; read line; exit 42"
    made = start(site, "sh", "-c", script, interactive=True)
    until_output(site, "ready")
    attach = Path(made["container"]["attach"])
    site.daemon.kill()
    with AttachClient(attach) as client:
        client.socket.send(b"\n")
        while client.socket.recv(100):
            pass
    site.daemon.start()
    ended = show(site)
    assert ended["state"] == "exited"
    assert (ended["container"]["status"], ended["container"]["exit_code"]) == ("exited", 42)
    assert not Path(ended["netns"]).exists()


@pytest.mark.parametrize(
    "point",
    [
        "container.drafted",
        "attach.stored",
        "container.networked",
        "container.prepared",
        "container.created",
    ],
)
def test_a_kill_while_it_is_made_leaves_all_or_nothing(site: Site, point: str) -> None:
    site.daemon.restart(environment={"LINKSPAN_FAILPOINT": point})
    with pytest.raises((OSError, http.client.HTTPException)):
        create(site, "sleep", "60")
    assert site.daemon.process is not None
    site.daemon.process.wait(10)
    site.daemon.start()
    found = site.daemon.get("/v1/sandboxes")
    assert [one["container"]["status"] for one in found] == (
        ["created"] if point == "container.created" else []
    )
    if not found:
        assert os.listdir(site.daemon.run_dir / "netns") == []
        assert list(containers_of(site)) == []
        assert create(site, "true")["state"] == "up"


@pytest.mark.parametrize("point", ["container.ended", "release.applied", "container.released"])
def test_a_kill_while_it_ends_leaves_it_ended(site: Site, point: str) -> None:
    site.daemon.restart(environment={"LINKSPAN_FAILPOINT": point})
    start(site, "sh", "-c", "sleep 0.3; exit 9")
    assert site.daemon.process is not None
    site.daemon.process.wait(10)
    site.daemon.start()
    ended = show(site)
    assert ended["container"]["status"] == "exited"
    assert ended["container"]["exit_code"] == 9
    assert ended["state"] == "exited"
    assert os.listdir(site.daemon.run_dir / "netns") == []


def test_after_a_reboot_those_with_a_policy_come_back(site: Site) -> None:
    start(site, "sleep", "60")
    start(site, "sleep", "60", name="till", restart="unless-stopped")
    start(site, "sleep", "60", name="shut", restart="unless-stopped")
    site.daemon.post("/v1/containers/shut/stop?timeout=0")
    reboot(site)
    until(lambda: show(site, "till")["container"]["status"] == "running")
    assert show(site, "till")["state"] == "up"
    for name in ("shop", "shut"):
        assert show(site, name)["state"] == "exited"
        assert show(site, name)["container"]["status"] == "exited"
    assert wait(site, "shop") == 255


def reboot(site: Site) -> None:
    """All processes and the run directory go, the state directory stays."""
    site.daemon.kill()
    for pid in containers_of(site):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not list(containers_of(site)))
    for name in os.listdir(site.daemon.run_dir / "netns"):
        site.lab.run(site.host, ["umount", str(site.daemon.run_dir / "netns" / name)])
    site.lab.run(site.host, ["rm", "-rf", str(site.daemon.run_dir)])
    for table in ("inet linkspan", "bridge linkspan"):
        site.lab.run(site.host, f"nft delete table {table}", check=False)
    for link in json.loads(site.lab.run(site.host, "ip -j link show type bridge").stdout):
        if "ifname" in link:
            site.lab.run(site.host, ["ip", "link", "delete", link["ifname"]])
    site.daemon.start()


def containers_of(site: Site) -> Iterator[int]:
    """Processes of this daemon's containers: its conmons, and what they watch over."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if arguments[0].endswith(b"conmon") and str(site.daemon.run_dir).encode() in b" ".join(
                arguments
            ):
                yield int(entry.name)
                pid = next((a for a in arguments if a.endswith(b"/pid")), None)
                if pid is not None:
                    with contextlib.suppress(OSError, ValueError):
                        yield int(Path(os.fsdecode(pid)).read_text())


def test_purge_takes_running_containers_too(site: Site) -> None:
    start(site, "sleep", "60", restart="always")
    pids = list(containers_of(site))
    assert len(pids) == 2
    assert site.daemon.purge().returncode == 0
    until(lambda: not list(containers_of(site)))
    assert not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    """Whether a process is there and not only waits to be reaped."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
