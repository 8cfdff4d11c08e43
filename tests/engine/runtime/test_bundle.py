"""The configuration that a container gets, as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linkspan.engine.runtime.bundle import cgroup_of, compose_config, compose_env
from linkspan.engine.runtime.host import CAPABILITIES, Host, maps_id, name_capabilities
from linkspan.engine.runtime.rootfs import Identity
from linkspan.engine.runtime.seccomp import compose_seccomp
from linkspan.engine.runtime.spec import ContainerSpec, check_spec
from linkspan.errors import InvalidRequest

HOST = Host(
    capabilities=frozenset(CAPABILITIES),
    file_systems=frozenset({"proc", "mqueue"}),
    cgroup_namespaces=True,
    cgroups=True,
    unified=False,
    own_user_namespace=False,
    tty_group=True,
)
FILES = ("/etc/hosts", "/etc/hostname")


def spec(**fields: Any) -> ContainerSpec:
    return ContainerSpec(
        **{"id": "ab" * 32, "name": "box", "hostname": "box", "command": ("true",)} | fields
    )


def config(wanted: ContainerSpec, host: Host = HOST, hidden: tuple[str, ...] = ()) -> Any:
    bundle = Path("/run/bundle")
    return compose_config(wanted, Identity(0, 0), host, bundle, files=FILES, hidden=hidden)


def kinds(composed: Any) -> dict[str, str | None]:
    return {entry["type"]: entry.get("path") for entry in composed["linux"]["namespaces"]}


def options(composed: Any, target: str) -> list[str]:
    return next(entry["options"] for entry in composed["mounts"] if entry["destination"] == target)


def test_by_default_nothing_can_change_a_network():
    composed = config(spec())
    for names in composed["process"]["capabilities"].values():
        assert "CAP_NET_ADMIN" not in names
        assert "CAP_SYS_ADMIN" not in names
        assert {"CAP_NET_RAW", "CAP_NET_BIND_SERVICE"} <= set(names)
    assert composed["process"]["noNewPrivileges"] is True
    assert "/proc/sys" in composed["linux"]["readonlyPaths"]
    assert "ro" in options(composed, "/sys")
    assert composed["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert "seccomp" in composed["linux"]


def test_privileged_lifts_every_limit_but_the_cover_over_others_files():
    composed = config(spec(privileged=True), hidden=("/var/lib/linkspan",))
    assert len(composed["process"]["capabilities"]["effective"]) == len(CAPABILITIES)
    assert composed["process"]["noNewPrivileges"] is False
    assert composed["linux"]["readonlyPaths"] == []
    assert composed["linux"]["maskedPaths"] == ["/var/lib/linkspan"]
    assert "rw" in options(composed, "/sys")
    assert "seccomp" not in composed["linux"]


def test_only_a_namespace_of_its_own_is_joined_and_set_up():
    own = config(spec(netns="/run/netns/box"))
    assert kinds(own)["network"] == "/run/netns/box"
    assert own["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"
    shared = config(spec())
    assert "network" not in kinds(shared)
    assert "sysctl" not in shared["linux"]
    assert {"pid", "mount", "ipc", "uts", "cgroup"} == set(kinds(shared))


def test_a_container_is_not_given_what_the_daemon_lacks():
    import msgspec

    poor = msgspec.structs.replace(HOST, capabilities=frozenset({"CHOWN"}), cgroups=False)
    composed = config(spec(privileged=True), poor)
    assert composed["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
    assert "cgroupsPath" not in composed["linux"]


def test_the_cgroup_has_no_parent_to_be_left_over():
    assert config(spec())["linux"]["cgroupsPath"] == cgroup_of("ab" * 32)
    assert cgroup_of("ab" * 32).count("/") == 1


def test_run_is_fresh_over_the_host_and_kept_in_a_root_directory():
    targets = [entry["destination"] for entry in config(spec())["mounts"]]
    assert targets.index("/run") < targets.index("/etc/hosts")  # a file may be a link into /run
    composed = config(spec(rootfs="/srv/root"))
    assert "/run" not in [entry["destination"] for entry in composed["mounts"]]
    assert composed["root"]["path"] == "/srv/root"


def test_the_environment_has_defaults_that_can_be_replaced():
    assert compose_env((), "box", "/root", False)[1:] == ("HOSTNAME=box", "HOME=/root")
    assert "TERM=xterm" in compose_env((), "box", "/", True)
    given = compose_env(("PATH=/x", "A=1", "A=2"), "box", "/", False)
    assert given == ("PATH=/x", "HOSTNAME=box", "HOME=/", "A=2")


def test_seccomp_refuses_new_user_namespaces_by_every_call():
    profile = compose_seccomp("x86_64")
    refused = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert {"clone", "clone3", "unshare", "bpf", "mount", "setns", "init_module"} <= refused
    assert "SCMP_ARCH_X86" in profile["architectures"]
    assert "architectures" not in compose_seccomp("riscv64")


def test_capabilities_are_named_by_their_bits():
    assert name_capabilities(1 << 12 | 1) == {"NET_ADMIN", "CHOWN"}
    assert name_capabilities((1 << 41) - 1) == set(CAPABILITIES)
    assert maps_id(["0 1000 1"], 5) is False
    assert maps_id(["0 0 4294967295"], 5) is True


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "abc"},
        {"id": "../" + "a" * 61},
        {"command": ()},
        {"command": ("a", "b\0")},
        {"env": ("=x",)},
        {"env": ("x",)},
        {"workdir": "here"},
        {"rootfs": "here"},
        {"log_size_max": 0},
    ],
)
def test_a_spec_that_cannot_be_is_refused(fields: dict[str, Any]):
    with pytest.raises(InvalidRequest):
        check_spec(spec(**fields))
