"""A host that CNI's plugins made, without any runtime: what is predicted is what happens.

The plugins are run as a runtime runs them (CNI spec 1.0.0), and their results are kept where
and as libcni keeps them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, Namespace
from linkspan.inventory import cni, taking
from linkspan.inventory.cni import find_attachments
from peers.attempts import FAR, STRANGER, UPLINK, Source, look_from, run_path, try_all, wire_up

PLUGINS = Path("/usr/lib/cni")
PORTS = {
    "web": [(8080, 80, "tcp", ""), (9090, 80, "tcp", "127.0.0.1"), (5353, 53, "udp", "")],
    "db": [],
    "other": [],
}


class CniHost:
    """web and db on one bridge, other on a second one that may not talk to the first."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.place = lab.namespace("cnihost")
        self.outside: Namespace = wire_up(lab, self.place)
        self.cache = lab.directory / "results"
        self.cache.mkdir()
        self.places = {name: lab.namespace(name) for name in PORTS}
        self.addresses: dict[str, str] = {}
        for name, network in (("web", "front"), ("db", "front"), ("other", "back")):
            self._attach(name, network)
        for chain in ("-i cni-front -o cni-back", "-i cni-back -o cni-front"):
            lab.run(self.place, f"iptables -I FORWARD {chain} -j REJECT")
        for name, place in self.places.items():
            for port in (80, 81):
                lab.listener_tcp(place, "0.0.0.0", port, reply=name)
        lab.listener_udp(self.places["web"], "0.0.0.0", 53, reply="web")
        lab.listener_tcp(self.outside, "0.0.0.0", 443, reply="outside")
        lab.listener_udp(self.outside, FAR, 443, reply="outside")
        lab.listener_tcp(self.place, "0.0.0.0", 7000, reply="host")

    def _attach(self, name: str, network: str) -> None:
        subnet = {"front": "10.66.0.0/24", "back": "10.67.0.0/24"}[network]
        mappings = [
            {"hostPort": host_port, "containerPort": port, "protocol": protocol, "hostIP": address}
            for host_port, port, protocol, address in PORTS[name]
        ]
        ipam = {
            "type": "host-local", "dataDir": str(self.lab.directory / "leases"),
            "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}],
        }  # fmt: skip
        bridge = {
            "type": "bridge", "bridge": f"cni-{network}", "isGateway": True, "ipMasq": True,
            "hairpinMode": True, "ipam": ipam,
        }  # fmt: skip
        portmap = {
            "type": "portmap", "snat": True, "runtimeConfig": {"portMappings": mappings},
        }  # fmt: skip
        result: Any = None
        for plugin in (bridge, *([portmap] if mappings else []), {"type": "firewall"}):
            conf = {"cniVersion": "1.0.0", "name": network, **plugin}
            if result is not None:
                conf["prevResult"] = result
            result = self._run(name, conf)
        self.addresses[name] = result["ips"][0]["address"].split("/")[0]
        kept = {
            "kind": "cniCacheV1", "containerId": f"{name}-0123456789ab", "ifName": "eth0",
            "networkName": network, "result": result,
            "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", name]],
            "capabilityArgs": {"portMappings": mappings},
        }  # fmt: skip
        (self.cache / f"{network}-{name}-eth0").write_text(json.dumps(kept))

    def _run(self, name: str, conf: dict[str, Any]) -> Any:
        done = subprocess.run(
            ["nsenter", f"--net={self.place.path}", str(PLUGINS / conf["type"])],
            input=json.dumps(conf), capture_output=True, text=True, timeout=20,
            env={
                "CNI_COMMAND": "ADD", "CNI_CONTAINERID": f"{name}-0123456789ab",
                "CNI_NETNS": self.places[name].path, "CNI_IFNAME": "eth0",
                "CNI_PATH": str(PLUGINS), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cni_host() -> Iterator[CniHost]:
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    missing = [name for name in ("bridge", "portmap", "firewall") if not (PLUGINS / name).exists()]
    if missing:
        pytest.skip(f"not installed: CNI's {', '.join(missing)} (scripts/setup installs them)")
    with Lab() as lab:
        yield CniHost(lab)


@pytest.fixture(autouse=True)
def cache_of_the_host(cni_host: CniHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are looked for where this host keeps them, besides the usual folders."""
    folders = (str(cni_host.cache), *cni.FOLDERS)
    monkeypatch.setattr(taking, "find_attachments", lambda: find_attachments(folders))


def test_every_flow_goes_as_it_is_predicted(cni_host: CniHost) -> None:
    host = cni_host
    seen = look_from(host.place)
    sources = [
        *(Source(name, place) for name, place in host.places.items()),
        Source("host", host.place), Source(host.outside.name, host.outside),
    ]  # fmt: skip
    targets = [
        *((address, port, "tcp") for address in host.addresses.values() for port in (80, 81, 82)),
        (UPLINK, 8080, "tcp"), (UPLINK, 9090, "tcp"), ("127.0.0.1", 9090, "tcp"),
        ("127.0.0.1", 8080, "tcp"), (UPLINK, 5353, "udp"), (UPLINK, 7000, "tcp"),
        (STRANGER, 443, "tcp"), (FAR, 443, "udp"), (host.addresses["web"], 53, "udp"),
    ]  # fmt: skip
    outcomes = try_all(host.lab, seen, sources, targets)
    answered = {(one.source, one.target, one.port) for one in outcomes if one.answered}
    stranger = host.outside.name
    assert (stranger, UPLINK, 8080) in answered
    assert (stranger, UPLINK, 9090) not in answered
    assert ("host", "127.0.0.1", 9090) in answered
    assert ("db", host.addresses["web"], 80) in answered
    assert ("other", host.addresses["web"], 80) not in answered
    assert ("other", FAR, 443) in answered


def test_pods_have_their_names_and_ports(cni_host: CniHost) -> None:
    found = {one.name: one for one in look_from(cni_host.place).containers if one.runtime == "cni"}
    assert found.keys() >= PORTS.keys()
    web = found["web"]
    assert (web.namespace, web.id, web.networks) == ("web", "web-0123456789ab", ("front",))
    assert web.published == (
        "0.0.0.0:8080->80/tcp", "127.0.0.1:9090->80/tcp", "0.0.0.0:5353->53/udp",
    )  # fmt: skip
    assert {"shop/web", f"netns:{cni_host.places['web'].path}"} <= set(web.aliases)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("{db}", "{web}:80"), 0, "DELIVERED"),
        (("{other}", "{web}:80"), 1, "rejected"),
        (("outside", f"{UPLINK}:8080"), 0, "DELIVERED"),
        (("netns:/run/netns/{db}", f"{FAR}:443", "--proto", "udp"), 0, "DELIVERED"),
    ],
)
def test_path_answers_both_ways(
    cni_host: CniHost, words: tuple[str, ...], status: int, said: str
) -> None:
    names = {name: place.name for name, place in cni_host.places.items()}
    enter = ["nsenter", f"--net={cni_host.place.path}"]
    done = run_path(enter, *(word.format(**names) for word in words))
    assert (done.returncode, said in done.stdout) == (status, True), done
