"""Look-ups from inside a container, by dnsperf: our resolver beside Docker's.

Both answer the name of another container on the same network, and a name outside, which one
dnsmasq a host knows. Docker's resolver keeps no answers from outside; ours does.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import docker
from benchmarks.client import Client
from benchmarks.measure import Goal, Measured, Row, Size, Subject, alternate
from benchmarks.stage import NETWORK, Host
from lab import Lab, Namespace, Place
from lab.processes import wait_until

OWN, OUTSIDE = "db", "www.example.org"
UPSTREAM = "198.51.100.53"
"""An address of each host's loopback interface, where its dnsmasq is."""
GOAL = Goal(at_least=1.0, aim=2.0, higher_is_better=True)


def run(lab: Lab, size: Size) -> Subject:
    """Questions answered per second with 200 open at a time, from 4 sockets."""
    seconds = size.choose(3, 1)
    rounds = size.choose(5, 2)
    ours = prepare_ours(lab)
    places: dict[str, Place] = {"linkspan": ours}
    if not docker.is_there():
        samples = measure(lab, places, OWN, seconds, rounds)
        mine = Measured.of("linkspan", samples["linkspan"], "per s")
        row = Row(job="look-ups of a container's name", ours=mine, figure=mine.median,
                  figure_unit="per s")  # fmt: skip
        return Subject(rows=(row,), notes=("Docker is not installed: no comparison.",))
    with docker.Docker(lab) as dockerd:
        places["docker"] = prepare_docker(lab, dockerd)
        rows = [
            compare(job, measure(lab, places, name, seconds, rounds))
            for job, name in (
                ("look-ups of a container's name", OWN),
                ("look-ups of one name outside", OUTSIDE),
            )
        ]
    return Subject(rows=tuple(rows))


def compare(job: str, samples: dict[str, list[float]]) -> Row:
    """A row judged by how many times as many answers we give."""
    ours = Measured.of("linkspan", samples["linkspan"], "per s")
    peer = Measured.of("Docker's resolver", samples["docker"], "per s")
    return Row(
        job=job,
        ours=ours,
        peer=peer,
        figure=ours.median / peer.median,
        figure_unit="x as many",
        goal=GOAL,
    )


def measure(
    lab: Lab, places: dict[str, Place], name: str, seconds: int, rounds: int
) -> dict[str, list[float]]:
    """Answers per second, in turns."""
    questions = lab.directory / f"questions-{name}"
    questions.write_text(f"{name} A\n")

    def contender(place: Place) -> float:
        return ask(lab, place, questions, seconds)

    contenders = {who: lambda _, place=place: contender(place) for who, place in places.items()}
    alternate(contenders, 1)
    return alternate(contenders, rounds)


def ask(lab: Lab, place: Place, questions: Path, seconds: int) -> float:
    """Let dnsperf ask for some seconds; the answers per second. Fails when any is wrong."""
    command = f"dnsperf -s 127.0.0.11 -d {questions} -l {seconds} -c 4 -q 200"
    said = lab.run(place, command, timeout=seconds + 30).stdout
    found = re.search(r"Queries per second:\s+([\d.]+)", said)
    good = re.search(r"NOERROR (\d+) \(100\.00%\)", said)
    if found is None or good is None:
        raise AssertionError(f"not every question was answered:\n{said}")
    return float(found[1])


def prepare_ours(lab: Lab) -> str:
    """A host with a daemon, and two containers on a network; the namespace of one of them."""
    host = Host(lab, "ours")
    start_upstream(lab, host.place)
    folder = lab.directory
    (folder / "resolv.conf").write_text(f"nameserver {UPSTREAM}\n")
    (folder / "settings.toml").write_text(f'resolv_conf = "{folder}/resolv.conf"\n')
    daemon = lab.daemon(host.place, "--config", f"{folder}/settings.toml")
    daemon.post("/v1/networks", {"name": NETWORK, "subnets": ["10.20.0.0/16"]})
    daemon.post("/v1/sandboxes", {"name": OWN, "networks": [NETWORK]})
    return str(daemon.post("/v1/sandboxes", {"name": "asker", "networks": [NETWORK]})["netns"])


def prepare_docker(lab: Lab, dockerd: docker.Docker) -> int:
    """The same with Docker; the process id of the container that asks."""
    start_upstream(lab, dockerd.place)
    dockerd.import_image()
    dockerd.add_network("one", "10.30.0.0/16")
    dockerd.run_container(OWN, "one")
    dockerd.run_container("asker", "one", dns=[UPSTREAM])
    with Client(dockerd.socket) as client:
        return int(client.request("GET", "/containers/asker/json")["State"]["Pid"])


def start_upstream(lab: Lab, place: Namespace) -> None:
    """A dnsmasq that knows one name."""
    lab.address(place, "lo", f"{UPSTREAM}/32")
    lab.spawn(
        place,
        [
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root"),
            *("--no-resolv", "--no-hosts", "--bind-interfaces", "--pid-file"),
            *(f"--listen-address={UPSTREAM}", f"--host-record={OUTSIDE},198.51.100.7,600"),
        ],
    )
    wait_until(lambda: f"{UPSTREAM}:53" in lab.run(place, "ss -Hlun").stdout, "dnsmasq to listen")
