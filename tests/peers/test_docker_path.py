"""The walk on a host that a real Docker made: a port that is published, and one that is not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from benchmarks.client import Client
from benchmarks.docker import Docker

from lab import Lab, Namespace
from linkspan.analysis import Flow, Verdict, View, trace_flow
from linkspan.cli.hostview import find_places, observe_host
from linkspan.kernel import namespaces
from walks.probes import Probe, Servers, ask


def test_a_published_port_is_delivered_and_another_is_dropped_by_a_rule(
    lab: Lab, netns: Callable[[str], Namespace], require: Callable[..., None]
) -> None:
    require("dockerd", "docker")
    outside = netns("outside")
    with Docker(lab, "dpath") as docker:
        for words in (
            f"ip link add up0 type veth peer name eth0 netns {outside.name}",
            "ip address add 192.0.2.1/24 dev up0", "ip link set up0 up", "ip link set lo up",
        ):  # fmt: skip
            subprocess.run(["nsenter", f"--net={docker.place.path}", *words.split()], check=True)
        for words in (
            "ip address add 192.0.2.2/24 dev eth0", "ip link set eth0 up", "ip link set lo up",
            "ip route add default via 192.0.2.1",
        ):  # fmt: skip
            subprocess.run(["nsenter", f"--net={outside.path}", *words.split()], check=True)
        docker.import_image()
        body = {
            "Image": "bench", "Cmd": ["/bin/sleep", "600"], "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
        }  # fmt: skip
        with Client(docker.socket) as client:
            client.request("POST", "/containers/create?name=web", body)
            client.request("POST", "/containers/web/start", {})
            state = client.request("GET", "/containers/web/json")
        address = state["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        place = f"/proc/{state['State']['Pid']}/ns/net"
        servers = Servers()
        try:
            for port in (80, 81):
                servers.listen(place, "tcp", "0.0.0.0", port)
            with (
                namespaces.opened(docker.place.path) as descriptor,
                namespaces.entered(descriptor),
            ):
                asked = [("outside", outside.path), ("web", place)]
                found = find_places(None, asked)
                outer = found.aliases["outside"]
                view = View(observe_host(found.paths, [outer]).plane, sockets_known=True)
            targets = (("192.0.2.1", 8080), (address, 81), (address, 80), ("192.0.2.1", 81))
            for number, (target, port) in enumerate(targets):
                flow = Flow(destination=target, destination_port=port, source_port=31000 + number)
                answer = trace_flow(view, outer, flow)
                probe = Probe("outside", outside.path, target, port, "tcp", 31000 + number)
                seen = ask(probe, 1.0)
                assert (answer.verdict is Verdict.DELIVERED) == (seen == "ok"), (
                    target, port, seen, answer.first.reason)  # fmt: skip
                assert answer.first.not_understood == ()
                if (target, port) == ("192.0.2.1", 8080):
                    assert seen == "ok"
                    assert answer.first.arrived.destination == address
                if port == 81 and target == address:
                    assert seen == "timeout"
                    assert (
                        answer.first.reason
                        == "dropped by the policy of ip filter FORWARD (forward)"
                        or (
                            "dropped by ip" in answer.first.reason
                            and "-j DROP" in answer.first.reason
                        )
                    )
        finally:
            servers.close()
