"""From a request to published ports: nothing clashes, and free ports are really free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.drivers.records import PublishedPort
from linkspan.engine.publishing import HostSocket, Listeners, PortIndex, assign_ports
from linkspan.errors import Exhausted, InvalidRequest, LinkspanError, PortInUse

HOST = ("192.0.2.10", "2001:db8::10")


def assign(
    *texts: str,
    index: PortIndex | None = None,
    sockets: tuple[HostSocket, ...] = (),
    port_range: tuple[int, int] = (50000, 50004),
    every_address: tuple[str, ...] = ("0.0.0.0",),
) -> list[str]:
    """The published ports of a request, as text."""
    ports = assign_ports(
        texts,
        PortIndex() if index is None else index,
        Listeners(sockets),
        host_addresses=HOST,
        port_range=port_range,
        every_address=every_address,
    )
    return [str(port) for port in ports]


def index_with(*ports: PublishedPort) -> PortIndex:
    index = PortIndex()
    for port in ports:
        index.add(port, "web")
    return index


def test_what_is_stated_is_what_is_published():
    assert assign("8080:80", "127.0.0.1:53:53/udp", "[2001:db8::10]:9000-9001:90-91") == [
        "0.0.0.0:8080:80/tcp",
        "127.0.0.1:53:53/udp",
        "[2001:db8::10]:9000-9001:90-91/tcp",
    ]


def test_without_a_host_address_it_is_on_every_address():
    assert assign("8080:80", "81", every_address=("0.0.0.0", "::")) == [
        "0.0.0.0:8080:80/tcp",
        "[::]:8080:80/tcp",
        "0.0.0.0:50000:81/tcp",
        "[::]:50000:81/tcp",
    ]


def test_free_ports_are_chosen_one_after_another_and_come_round():
    index = PortIndex()
    chosen = [assign("80", index=index)[0] for _ in range(7)]
    assert [text.split(":")[1] for text in chosen] == [
        *("50000", "50001", "50002", "50003", "50004"),
        *("50000", "50001"),
    ]


def test_a_free_port_is_neither_published_nor_listened_on_nor_asked_for():
    index = index_with(
        PublishedPort(host_ip="192.0.2.10", host_port=50000, host_port_end=50001, port=1)
    )
    listening = HostSocket(protocol="tcp", address="::", port=50002)
    found = assign("80", "50003:81", index=index, sockets=(listening,))
    assert found == ["0.0.0.0:50004:80/tcp", "0.0.0.0:50003:81/tcp"]
    assert assign("127.0.0.1::80", index=index)[0] == "127.0.0.1:50000:80/tcp"


def test_several_free_ports_are_in_a_row():
    index = index_with(PublishedPort(host_port=50001, host_port_end=50001, port=1))
    assert assign("90-92", index=index) == ["0.0.0.0:50002-50004:90-92/tcp"]
    with pytest.raises(Exhausted, match=r"'90-93': no 4 free host ports from 50000 to 50004"):
        assign("90-93", index=index)


def test_a_range_of_host_ports_for_one_port_gives_the_first_free_one():
    index = index_with(PublishedPort(host_port=8000, host_port_end=8001, port=1))
    assert assign("8000-8003:80", index=index) == ["0.0.0.0:8002:80/tcp"]
    with pytest.raises(PortInUse, match="all host ports from 8000 to 8001"):
        assign("8000-8001:80", index=index)


def test_no_free_port_says_so():
    index = index_with(PublishedPort(host_port=50000, host_port_end=50004, port=1))
    with pytest.raises(Exhausted, match="widen port_range"):
        assign("80", index=index)
    assert assign("80/udp", index=index) == ["0.0.0.0:50000:80/udp"]


def test_a_port_of_another_sandbox_is_refused_by_name():
    index = index_with(PublishedPort(host_port=8080, host_port_end=8080, port=80))
    with pytest.raises(PortInUse, match=r"port 8080/tcp on 0\.0\.0\.0 is already published by web"):
        assign("8080:80", index=index)


@pytest.mark.parametrize(
    ("texts", "clash"),
    [
        (("8080:80", "8080:81"), True),
        (("8080:80", "8080:80"), True),
        (("8080:80", "127.0.0.1:8080:81"), True),
        (("8000-8100:8000-8100", "8050:80"), True),
        (("8080:80/tcp", "8080:80/udp"), False),
        (("127.0.0.1:80:80", "192.0.2.10:80:80"), False),
        (("80:80", "[::]:80:80"), False),
    ],
)
def test_texts_of_one_request_that_clash_are_both_named(texts: tuple[str, ...], clash: bool):
    if clash:
        with pytest.raises(InvalidRequest) as caught:
            assign(*texts)
        assert all(repr(text) in caught.value.message for text in texts)
    else:
        assert len(assign(*texts)) == len(texts)


@pytest.mark.parametrize("address", ["192.0.2.99", "2001:db8::99", "10.0.0.1"])
def test_an_address_that_is_not_the_hosts_is_refused_with_those_it_has(address: str):
    bracketed = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequest, match="is not an address of this host, which has") as caught:
        assign(f"{bracketed}:80:80")
    assert HOST[":" in address] in caught.value.message


@pytest.mark.parametrize("text", ["127.9.9.9:80:80", "[::1]:80:80", "0.0.0.0:80:80", "[::]:80:80"])
def test_loopback_and_wildcards_need_no_interface(text: str):
    assert len(assign(text)) == 1


@pytest.mark.parametrize(
    ("address", "v6only", "meets"),
    [
        ("0.0.0.0", False, {"0.0.0.0", "192.0.2.10", "127.0.0.1"}),
        ("127.0.0.1", False, {"0.0.0.0", "127.0.0.1"}),
        ("192.0.2.10", False, {"0.0.0.0", "192.0.2.10"}),
        ("127.0.0.53", False, {"0.0.0.0"}),
        ("::", False, {"0.0.0.0", "192.0.2.10", "127.0.0.1", "::", "::1"}),
        ("::", True, {"::", "::1"}),
        ("::1", False, {"::", "::1"}),
        ("::ffff:127.0.0.1", False, {"0.0.0.0", "127.0.0.1"}),
    ],
)
def test_which_listener_stands_in_the_way_of_which_address(
    address: str, v6only: bool, meets: set[str]
):
    sockets = (
        HostSocket(
            protocol="tcp", address=address, port=80, v6only=v6only, process="nginx", pid=42
        ),
    )
    for wanted in ("0.0.0.0", "192.0.2.10", "127.0.0.1", "::", "::1"):
        text = f"[{wanted}]:80:80" if ":" in wanted else f"{wanted}:80:80"
        if wanted in meets:
            with pytest.raises(PortInUse, match=r"port 80/tcp on .*: nginx \(pid 42\) listens"):
                assign(text, sockets=sockets)
        else:
            assert assign(text, sockets=sockets)


@pytest.mark.parametrize(
    ("protocol", "state", "clash"),
    [
        ("tcp", "listening", True),
        ("tcp", "connected", False),
        ("udp", "bound", True),
        ("udp", "connected", False),
        ("sctp", "listening", True),
    ],
)
def test_a_client_is_no_obstacle(protocol: str, state: str, clash: bool):
    sockets = (HostSocket(protocol=protocol, address="192.0.2.10", port=50000, state=state),)
    if clash:
        with pytest.raises(PortInUse, match=r"a process listens on it at 192.0.2.10; stop it"):
            assign(f"50000:80/{protocol}", sockets=sockets)
    else:
        assert assign(f"50000:80/{protocol}", sockets=sockets)


def test_a_listener_inside_a_wide_range_is_found():
    sockets = (HostSocket(protocol="tcp", address="0.0.0.0", port=8500),)
    with pytest.raises(PortInUse, match="port 8500/tcp"):
        assign("8000-9000:8000-9000", sockets=sockets)


TEXTS = st.lists(
    st.builds(
        lambda ip, host, inside, protocol: f"{ip}{host}{inside}/{protocol}",
        st.sampled_from(["0.0.0.0:", "127.0.0.1:", "192.0.2.10:", "[::]:", "[::1]:"]),
        st.sampled_from([":", "50000:", "50001:", "50002-50003:", "50000-50004:"]),
        st.sampled_from(["80", "80-81", "90"]),
        st.sampled_from(["tcp", "udp"]),
    ),
    max_size=4,
)


@given(st.lists(TEXTS, max_size=6), st.lists(st.integers(50000, 50004), max_size=2))
def test_what_is_assigned_can_always_be_entered(requests: list[list[str]], busy: list[int]):
    index = PortIndex()
    sockets = [HostSocket(protocol="tcp", address="127.0.0.1", port=port) for port in busy]
    for texts in requests:
        try:
            ports = assign_ports(
                texts,
                index,
                Listeners(sockets),
                host_addresses=HOST,
                port_range=(50000, 50004),
            )
        except LinkspanError:
            continue
        assert len(ports) == len(texts)
        for port in ports:
            index.add(port, "web")
            taken = set(range(port.host_port, port.host_port_end + 1))
            if port.protocol == "tcp" and port.host_ip in ("0.0.0.0", "127.0.0.1"):
                assert not taken.intersection(busy)
