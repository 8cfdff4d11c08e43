"""Settings are read and written in the namespace that is meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import Namespace as Place
from linkspan.errors import InvalidRequest, KernelRefused
from linkspan.kernel import namespaces, sysctl

PATH = "ipv4/conf/all/arp_ignore"


def test_a_setting_is_written_in_its_own_namespace(
    home: Place, netns: Callable[[str], Place]
) -> None:
    other = netns("other")
    with namespaces.opened(other.path) as descriptor:
        sysctl.write(PATH, "2", descriptor)
        assert sysctl.read(PATH, descriptor) == "2"
    assert sysctl.read(PATH) == "0"


def test_settings_that_are_not_there_are_left_out(home: Place) -> None:
    assert sysctl.read("ipv4/no_such_thing") is None
    assert sysctl.read_many([PATH, "ipv4/no_such_thing"]) == {PATH: "0"}


def test_a_refused_value_is_named(home: Place) -> None:
    with pytest.raises(KernelRefused, match=r"net/ipv4/conf/all/arp_ignore to nonsense: .*EINVAL"):
        sysctl.write(PATH, "nonsense")
    with pytest.raises(KernelRefused, match="ENOENT"):
        sysctl.write("ipv4/no_such_thing", "1")


def test_one_refused_value_does_not_stop_the_others(home: Place) -> None:
    good = "ipv4/conf/default/arp_ignore"
    first, second = sysctl.write_many({PATH: "nonsense", good: "1"})
    assert isinstance(first, KernelRefused)
    assert second is None
    assert sysctl.read(good) == "1"


@pytest.mark.parametrize("path", ["../kernel/hostname", "/proc/sys/kernel/hostname", "a/../../x"])
def test_only_network_settings_are_reached(path: str) -> None:
    with pytest.raises(InvalidRequest, match="not a setting"):
        sysctl.read(path)
