"""What each source tells of its containers, also when it is damaged, hangs or talks nonsense."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.inventory import docker, podman
from linkspan.inventory.apisockets import ApiSocket, NoAnswer
from linkspan.inventory.cni import find_attachments, read_result
from linkspan.inventory.containerd import Task, read_task, read_tasks
from linkspan.inventory.podman import read_conmons, read_database, read_storage
from linkspan.inventory.programs import Program, read_groups
from linkspan.inventory.sightings import publish_text

ID = "0123456789abcdef" * 4
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99999) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["Id", "Names", "Ports", "PublicPort", "PrivatePort", "Labels", "Networks",
                         "NetworkSettings", "HostConfig", "containerId", "result", "interfaces",
                         "cniArgs", "capabilityArgs", "portMappings", "hostPort", "containerPort",
                         "annotations", "linux", "namespaces", "nerdctl/ports", "host_port",
                         "container_port", "HostPort", "ContainerPort", "State", "Pid", "Config"]),
        inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[bytes | None], str]]:
    """A unix socket that answers every question with some bytes; None: it never answers."""
    servers: list[tuple[socket.socket, threading.Thread]] = []

    def start(answer: bytes | None) -> str:
        path = str(tmp_path / f"socket{len(servers)}")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer or b"")

        thread = threading.Thread(target=run)
        if answer is not None:
            thread.start()
        servers.append((server, thread))
        return path

    yield start
    for server, thread in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        if thread.is_alive():
            thread.join(5)


def answer(value: Any) -> bytes:
    return b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(value).encode()


LISTED = {
    "Id": ID, "Names": ["/db/alias", "/web"], "Image": "shop:1",
    "Labels": {"com.docker.compose.service": "front", "com.docker.compose.project": "p"},
    "Ports": [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 443, "Type": "tcp"},
    ],
    "HostConfig": {"NetworkMode": "container:abc"},
    "NetworkSettings": {"Networks": {"front": {}, "back": {}}},
}  # fmt: skip


def test_docker_tells_names_networks_and_ports(
    serve: Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(docker.VARIABLE, serve(answer([LISTED])))
    (web,), unseen = docker.find_docker(known={ID})
    assert unseen == ()
    assert (web.name, web.id, web.image, web.guest) == ("web", ID, "shop:1", True)
    assert web.aliases == ("front", "p/front")
    assert web.networks == ("front", "back")
    assert web.published == ("0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (None, "does not answer within 0.2 s"),
        (b"", "answers something that is not HTTP"),
        (b"SSH-2.0-x\r\n", "answers something that is not HTTP"),
        (b"HTTP/1.1 500 No\r\n\r\n{}", "refuses with status 500"),
        (b"HTTP/1.1 200 OK\r\n\r\n[{", "answers something that is not JSON"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100000, "answers something that is not JSON"),
    ],
)
def test_a_daemon_that_makes_no_sense_is_told_of(
    serve: Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch,
    said: bytes | None, reason: str,
) -> None:  # fmt: skip
    path = serve(said)
    for variable, find in ((docker.VARIABLE, docker.find_docker),
                           (podman.VARIABLE, podman.find_podman)):  # fmt: skip
        monkeypatch.setenv(variable, path)
        sightings, (sentence,) = find(patience=0.2)
        assert sightings == ()
        assert sentence.endswith(f"'s socket {path} {reason}")


def test_a_daemon_that_drips_is_not_waited_for(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    path = str(tmp_path / "drips")
    with socket.socket(socket.AF_UNIX) as server, here, there:
        server.bind(path)
        server.listen()
        ended = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                while not ended.wait(0.02):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(NoAnswer, match="does not answer within"):
            ApiSocket(path, 0.2).get("/containers/json")
        ended.set()
        thread.join(5)


def test_without_a_socket_there_is_nothing_to_complain_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(docker.VARIABLE, "")
    assert docker.find_docker() == ((), ())


@given(JSON)
def test_no_json_whatever_breaks_a_reader(value: Any) -> None:
    record = value if isinstance(value, dict) else {}
    docker.read_listed(record)
    docker.read_config(record, ID)
    podman.read_listed(record)
    read_result(value)
    read_task(Task("default", ID, None, ""), value)


def test_cni_results_of_one_container_are_joined(tmp_path: Path) -> None:
    for network, port in (("front", 8080), ("back", 0)):
        kept = {
            "kind": "cniCacheV1", "containerId": ID, "ifName": "eth0", "networkName": network,
            "result": {"interfaces": [{"name": "cni0"}, {"sandbox": "/run/netns/x"}]},
            "capabilityArgs": {"portMappings": [{"hostPort": port, "containerPort": 80}]},
        }  # fmt: skip
        (tmp_path / f"{network}-{ID}-eth0").write_text(json.dumps(kept))
    (tmp_path / "truncated").write_text('{"containerId": "x"')
    (tmp_path / "empty").write_text("")
    (one,) = find_attachments([str(tmp_path), str(tmp_path / "nowhere")])
    assert (one.id, one.path, one.networks) == (ID, "/run/netns/x", ("back", "front"))
    assert one.published == ("0.0.0.0:8080->80/tcp",)


def test_containerd_tasks_of_nerdctl_kubernetes_and_docker(tmp_path: Path) -> None:
    def task(namespace: str, annotations: dict[str, str]) -> Task:
        bundle = tmp_path / namespace
        bundle.mkdir()
        network = {"type": "network", "path": "/run/netns/x"}
        spec = {"annotations": annotations, "linux": {"namespaces": [{"type": "pid"}, network]}}
        (bundle / "config.json").write_text(json.dumps(spec))
        return Task(namespace, ID, 7, str(bundle))

    ports = [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "0.0.0.0"}]
    nerdctl = {
        "nerdctl/name": "web", "nerdctl/networks": '["bridge"]',
        "nerdctl/ports": json.dumps(ports),
    }  # fmt: skip
    cri = "io.kubernetes.cri."
    pod = {f"{cri}sandbox-name": "cart", f"{cri}sandbox-namespace": "shop"}
    inside = {**pod, f"{cri}container-name": "app", f"{cri}image-name": "cart:1"}
    web, cart, app, moby = read_tasks(
        [task("default", nerdctl), task("k8s.io", pod), task("k8s", inside), task("moby", {})]
    )
    assert (web.name, web.networks, web.published, web.path) == (
        "web", ("bridge",), ("0.0.0.0:8080->80/tcp",), "/run/netns/x"
    )  # fmt: skip
    assert (cart.name, cart.aliases, cart.guest) == ("cart", ("shop/cart",), False)
    assert (app.name, app.image, app.guest) == ("cart/app", "cart:1", True)
    assert (moby.runtime, moby.id, moby.pid, moby.name) == ("docker", ID, 7, "")


@pytest.mark.parametrize(
    ("line", "runtime", "what"),
    [
        (f"0::/system.slice/docker-{ID}.scope", "docker", ID),
        (f"4:cpu:/docker/{ID}", "docker", ID),
        (f"0::/machine.slice/libpod-{ID}.scope/container", "podman", ID),
        (f"9:name=systemd:/libpod_parent/libpod-{ID}", "podman", ID),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", "containerd", ID),
        (f"4:cpu:/kubepods/besteffort/pod1-2/{ID}", "containerd", ID),
        (f"0::/kubepods.slice/crio-{ID}.scope", "cri-o", ID),
        ("0::/lxc.payload.mail/init.scope", "lxc", "mail"),
        (r"0::/machine.slice/machine-build\x2dhost.scope", "machine", "build-host"),
    ],
)
def test_control_groups_name_containers(line: str, runtime: str, what: str) -> None:
    found = read_groups(f"1:other:/\n{line}\n", 42)
    assert found is not None
    assert (found.runtime, found.id or found.name, found.pid) == (runtime, what, 42)


@pytest.mark.parametrize(
    "line", ["0::/", "0::/user.slice/user-1.scope", f"0::/libpod-conmon-{ID}", "0::/docker/x"]
)
def test_other_control_groups_name_nobody(line: str) -> None:
    assert read_groups(line + "\n", 42) is None


def test_conmons_of_podman_cri_o_and_linkspan(tmp_path: Path) -> None:
    pidfile = tmp_path / "pidfile"
    pidfile.write_text("123")
    own = os.getpid()
    words = ("/usr/bin/conmon", "-c", ID, "-n", "web", "-p", str(pidfile))
    watchers = [
        Program(own, (*words, "--exit-command", "/usr/bin/podman")),
        Program(own, (*words, "--exit-dir", "/run/crio/exits")),
        Program(own, (*words, "--persist-dir", ".")),
        Program(own, (*words, "--exec", "--persist-dir", ".")),
        Program(own, ("/usr/bin/containerd-shim-runc-v2", "-id", ID)),
    ]
    found = read_conmons(watchers)
    assert [one.runtime for one in found] == ["podman", "cri-o", "linkspan"]
    assert {(one.id, one.name, one.pid) for one in found} == {(ID, "web", 123)}


def test_podmans_storage_and_database(tmp_path: Path) -> None:
    folder = tmp_path / "overlay-containers"
    folder.mkdir()
    rows = [
        {"id": ID, "names": ["web"], "metadata": '{"image-name": "shop:1"}'},
        {"id": "f" * 64, "names": ["stopped"], "metadata": "{"},
        {"id": "e" * 64, "names": None, "metadata": "{"},
    ]
    (folder / "containers.json").write_text(json.dumps(rows))
    found = list(read_storage(str(tmp_path), {ID, "e" * 64}))
    assert [(one.name, one.image) for one in found] == [("web", "shop:1"), ("", "")]
    base = sqlite3.connect(tmp_path / "db.sql")
    base.execute("CREATE TABLE ContainerConfig (ID TEXT, Name TEXT, PodID TEXT, JSON TEXT)")
    base.execute("CREATE TABLE ContainerState (ID TEXT, State INTEGER, JSON TEXT)")
    config = {
        "rootfsImageName": "shop:1", "newNetworks": {"podman": {}},
        "newPortMappings": [{"host_ip": "", "container_port": 80, "host_port": 8000, "range": 10,
                             "protocol": "tcp"}],
    }  # fmt: skip
    state = {"pid": 77, "netns": "/run/netns/netns-1"}
    base.execute("INSERT INTO ContainerConfig VALUES (?, 'web', '', ?)", (ID, json.dumps(config)))
    base.execute("INSERT INTO ContainerState VALUES (?, 3, ?)", (ID, json.dumps(state)))
    base.execute("INSERT INTO ContainerConfig VALUES ('x', 'stopped', '', '{}')")
    base.commit()
    base.close()
    (web,) = read_database(str(tmp_path / "db.sql"), {ID})
    assert (web.name, web.pid, web.path) == ("web", 77, "/run/netns/netns-1")
    assert (web.networks, web.published) == (("podman",), ("0.0.0.0:8000-8009->80-89/tcp",))
    (tmp_path / "db.sql").write_bytes(b"SQLite format 3\0" + b"garbage" * 99)
    assert list(read_database(str(tmp_path / "db.sql"), {ID})) == []


def test_published_ports_are_written_as_people_write_them() -> None:
    assert publish_text("", 8080, 80, "tcp") == "0.0.0.0:8080->80/tcp"
    assert publish_text("::1", 53, 53, "udp") == "[::1]:53->53/udp"
