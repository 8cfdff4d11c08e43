"""Probes for addresses, and what frames of others say about them."""

from __future__ import annotations

import socket

import pytest

from linkspan.kernel.arp import announcement, checksum
from linkspan.kernel.probing import probe, read_claim

OURS = bytes.fromhex("020000000001")
THEIRS = bytes.fromhex("525400000009")
FOUR = socket.inet_aton("192.168.7.64")
SIX = socket.inet_pton(socket.AF_INET6, "fd00:7::64")


def test_an_arp_probe_claims_nothing() -> None:
    frame = probe(OURS, FOUR)
    assert frame[:14] == b"\xff" * 6 + OURS + b"\x08\x06"
    assert frame[20:22] == b"\x00\x01"
    assert frame[22:28] == OURS
    assert frame[28:32] == bytes(4)
    assert frame[38:42] == FOUR


def test_a_solicitation_goes_to_the_group_of_its_target() -> None:
    frame = probe(OURS, SIX)
    assert frame[:6] == bytes.fromhex("3333ff000064")
    assert frame[20:22] == b"\x3a\xff"
    assert frame[22:38] == bytes(16)
    assert socket.inet_ntop(socket.AF_INET6, frame[38:54]) == "ff02::1:ff00:64"
    pseudo = frame[22:54] + len(frame[54:]).to_bytes(4, "big") + b"\0\0\0\x3a"
    assert checksum(pseudo + frame[54:]) == 0


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_who_announces_an_address_has_it(address: bytes) -> None:
    text = "192.168.7.64" if address == FOUR else "fd00:7::64"
    frame = announcement("52:54:00:00:00:09", text)
    assert read_claim(frame, OURS) == (address, THEIRS)


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_who_probes_for_an_address_will_have_it(address: bytes) -> None:
    assert read_claim(probe(THEIRS, address), OURS) == (address, THEIRS)


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_our_own_probe_that_a_switch_sends_back_is_nobodys(address: bytes) -> None:
    assert read_claim(probe(OURS, address), OURS) is None


def test_an_answer_with_our_own_mac_is_still_anothers() -> None:
    frame = announcement("02:00:00:00:00:01", "192.168.7.64")
    assert read_claim(frame, OURS) == (FOUR, OURS)


@pytest.mark.parametrize("length", [0, 13, 14, 41, 60, 77])
def test_short_frames_say_nothing(length: int) -> None:
    for address in (FOUR, SIX):
        whole = probe(THEIRS, address)
        if length < len(whole):
            assert read_claim(whole[:length], OURS) is None
