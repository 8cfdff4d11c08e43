"""The guest has what this folder's tests are here for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

KINDS = ["dummy", "ipvlan", "macvlan", "vlan"]


def test_it_is_a_machine_of_its_own():
    command_line = Path("/proc/cmdline").read_text()
    assert "virtme" in command_line
    assert os.geteuid() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_it_makes_links_of_a_kind(netns, lab, kind):
    place = netns("kinds")
    lab.run(place, ["ip", "link", "add", "parent", "type", "dummy"])
    more = {"dummy": [], "vlan": ["id", "20"]}.get(
        kind, ["mode", "bridge" if kind == "macvlan" else "l2"]
    )
    link = [] if kind == "dummy" else ["link", "parent"]
    lab.run(place, ["ip", "link", "add", *link, "name", "made", "type", kind, *more])
    shown = lab.run(place, ["ip", "-d", "link", "show", "made"])
    assert kind in shown.stdout


def test_what_it_writes_to_this_machines_files_is_refused():
    # A checkout below /tmp, /home and the like is in an overlay, which ends with the guest.
    with pytest.raises(OSError, match="Read-only"):
        Path("/written").touch()
