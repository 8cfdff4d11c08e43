"""Addresses by DHCP for members that share their parent's MAC (ipvlan), which this kernel has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab import Lab, Refused
from lab.processes import wait_until
from lab.segment import NEIGHBOUR, ROUTER, Segment


@pytest.fixture
def segment(lab: Lab) -> Segment:
    return Segment(lab)


def address(sandbox: Any) -> str:
    return str(sandbox["endpoints"][0]["ipv4"]).split("/")[0]


def test_members_of_ipvlan_have_a_lease_each(segment: Segment, tmp_path: Path) -> None:
    server = segment.plug_in("server", "eth0", "192.168.7.5/24")
    command = [
        *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0"),
        *("--bind-interfaces", "--no-ping", "--log-dhcp", "--dhcp-authoritative", "--user=root"),
        f"--dhcp-leasefile={tmp_path}/leases",
        "--dhcp-range=192.168.7.200,192.168.7.210,255.255.255.0,10m",
        f"--dhcp-option=option:router,{ROUTER}",
        *("--dhcp-option-force=option:T1,20", "--dhcp-option-force=59,500"),
    ]
    log = segment.lab.spawn(server, command)
    log.wait_for_output("sockets bound exclusively to interface")
    with pytest.raises(Refused, match="broadcasts"):
        segment.network("far", "ipvlan", subnets=[], ipam="dhcp", options={"mode": "l3"})
    segment.network("lan", "ipvlan", subnets=[], ipam="dhcp")
    web, db = segment.sandbox("web", "lan"), segment.sandbox("db", "lan")
    assert web["endpoints"][0]["mac"] == db["endpoints"][0]["mac"]
    assert address(web) != address(db)
    for one in (web, db):
        assert segment.reaches(one["netns"], NEIGHBOUR)
        assert segment.reaches(segment.neighbour, address(one))
    # An extension is answered to the address, not to everybody.
    wait_until(lambda: log.output.count(f"DHCPACK(eth0) {address(web)}") > 1, "an extension", 30)
    segment.daemon.delete("/v1/sandboxes/web")
    log.wait_for_output(f"DHCPRELEASE(eth0) {address(web)}")
