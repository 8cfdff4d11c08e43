"""An announcement reaches the neighbours, and they believe it."""

from __future__ import annotations

import select
import socket
import subprocess
from collections.abc import Callable

import pytest

from lab import Namespace as Place
from linkspan.errors import KernelRefused
from linkspan.kernel import namespaces
from linkspan.kernel.arp import announce

OLD, NEW = "02:00:00:00:00:01", "02:00:00:00:00:02"


@pytest.fixture
def far(home: Place, netns: Callable[[str], Place]) -> Place:
    """A namespace on the other end of a cable from `home`."""
    place = netns("far")
    for words in (
        f"link add v0 type veth peer name eth0 netns {place.name}",
        "link set v0 up",
        "addr add 10.1.0.1/24 dev v0",
        "addr add fd00::1/64 dev v0 nodad",
        f"-n {place.name} link set eth0 up",
        f"-n {place.name} addr add fd00::9/64 dev eth0 nodad",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return place


@pytest.mark.parametrize("address", ["10.1.0.7", "fd00::7"])
def test_a_neighbour_learns_the_new_mac(far: Place, address: str) -> None:
    words = ["ip", "neigh", "replace", address, "lladdr", OLD, "dev", "v0", "nud", "stale"]
    subprocess.run(words, check=True)
    # ETH_P_ALL, to wait until the frame has been looked at.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as listener:
        listener.bind(("v0", 3))
        with namespaces.opened(far.path) as descriptor:
            announce("eth0", NEW, address, descriptor)
        wanted = bytes.fromhex(NEW.replace(":", ""))
        while True:
            assert select.select([listener], [], [], 5)[0], "nothing came"
            if listener.recv(2048)[6:12] == wanted:
                break
    shown = subprocess.check_output(["ip", "neigh", "show", address], text=True)
    assert NEW in shown


def test_a_link_that_is_not_there_is_named(home: Place) -> None:
    with pytest.raises(KernelRefused, match=r"announcing 10\.1\.0\.7 on absent: .*ENODEV"):
        announce("absent", NEW, "10.1.0.7")
