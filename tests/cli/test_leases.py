"""What a person sees of a DHCP lease."""

from __future__ import annotations

import msgspec

from linkspan.api.views import show_lease
from linkspan.cli.details import lease_fields
from linkspan.drivers.records import DhcpLease


def show(lease: DhcpLease) -> dict[str, str]:
    return dict(lease_fields({"network": "lan", "lease": msgspec.to_builtins(show_lease(lease))}))


def test_everything_that_the_server_said():
    lease = DhcpLease(
        address="192.0.2.50/24",
        server="192.0.2.1",
        server_mac="02:00:00:00:00:01",
        acquired=0.0,
        renew_at=300.0,
        rebind_at=525.0,
        expires=600.0,
        router="192.0.2.254",
        dns=("192.0.2.2", "192.0.2.3"),
        domain="example.net",
    )
    assert show(lease) == {
        "Lease": "192.0.2.50/24 on lan from 192.0.2.1",
        "Renews": "1970-01-01T00:05:00Z",
        "Expires": "1970-01-01T00:10:00Z",
        "Router": "192.0.2.254",
        "DNS": "192.0.2.2, 192.0.2.3",
        "Domain": "example.net",
    }


def test_a_lease_without_end_and_frills():
    lease = DhcpLease(address="192.0.2.50/24", server="192.0.2.1", server_mac="", acquired=0.0)
    assert show(lease) == {
        "Lease": "192.0.2.50/24 on lan from 192.0.2.1",
        "Renews": "never",
        "Expires": "never",
    }
