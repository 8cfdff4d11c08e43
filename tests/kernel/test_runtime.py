"""Containers from their making to their removal, as the kernel and the programs inside see them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Namespace
from lab.containers import Containers
from linkspan.engine.runtime import Runtime
from linkspan.errors import (
    Conflict,
    InvalidRequest,
    KernelRefused,
    NotFound,
    RuntimeFailed,
    StorageFailed,
    Unsupported,
)

NET_ADMIN, NET_RAW, NET_BIND_SERVICE, SYS_ADMIN = 12, 13, 10, 21
"""Bits of CapEff: include/uapi/linux/capability.h."""


@pytest.fixture
def containers(
    tmp_path: Path, netns: Callable[[str], Namespace], require: Callable[..., None]
) -> Iterator[Containers]:
    require("runc", "conmon")
    made = Containers(tmp_path, netns("home"), netns("own"))
    yield made
    made.close()


def capabilities(status: str) -> set[int]:
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    return {bit for bit in range(64) if mask >> bit & 1}


def test_a_container_waits_for_its_start_and_passes_its_exit_status_on(containers: Containers):
    runtime = containers.runtime
    id = containers.create("sh", "-c", "echo done; exit 7")
    created = runtime.state(id)
    assert created.status == "created"
    assert created.pid
    assert created.conmon_pid
    assert containers.output(id) == ""
    before = time.time()
    containers.do(runtime.start(id))
    assert containers.wait(id) == 7
    ended = runtime.state(id)
    assert (ended.status, ended.exit_code) == ("exited", 7)
    assert ended.exited_at is not None
    assert before - 1 <= ended.exited_at <= time.time() + 1
    assert containers.output(id) == "done\n"
    assert runtime.found() == [id]


def test_deleting_a_running_container_leaves_nothing(containers: Containers):
    id = containers.start("sh", "-c", "sleep 1000 & echo up; wait")
    containers.read_until(id, "up")
    assert containers.leftovers(id) != []
    containers.do(containers.runtime.delete(id))
    assert containers.leftovers(id) == []
    assert containers.runtime.state(id).status == "missing"
    containers.do(containers.runtime.delete(id))  # once more is no error


def test_deleting_a_created_container_leaves_nothing(containers: Containers):
    id = containers.create("true")
    containers.do(containers.runtime.delete(id))
    assert containers.leftovers(id) == []


def test_what_an_overlay_mounts_is_never_seen_by_the_host(containers: Containers):
    id = containers.start("sh", "-c", "echo up; exec sleep 1000")
    containers.read_until(id, "up")
    assert id not in Path("/proc/self/mountinfo").read_text()
    pid = containers.runtime.state(id).pid
    assert "overlay" in Path(f"/proc/{pid}/mounts").read_text().splitlines()[0]


def test_a_container_writes_over_the_hosts_files_without_changing_them(containers: Containers):
    name = f"/opt/{containers.own.name}"
    status, text = containers.run("sh", "-c", f"echo mine > {name} && cat {name}")
    assert (status, text) == (0, "mine\n")
    assert not os.path.exists(name)


def test_a_container_goes_on_with_its_files_if_they_were_kept(containers: Containers):
    runtime = containers.runtime
    spec = containers.spec("sh", "-c", "echo once >> /opt/count; wc -l < /opt/count")
    for expected in ("1\n", "1\n2\n"):
        containers.do(runtime.create(spec))
        containers.do(runtime.start(spec.id))
        assert containers.wait(spec.id) == 0
        assert containers.output(spec.id) == expected
        containers.do(runtime.delete(spec.id, keep_files=True))
        assert runtime.state(spec.id).exit_code == 0
    containers.do(runtime.delete(spec.id))
    assert containers.leftovers(spec.id) == []


def test_a_kept_log_is_all_that_is_kept(containers: Containers):
    id = containers.start("sh", "-c", "echo last words")
    containers.wait(id)
    containers.do(containers.runtime.delete(id, keep_log=True))
    assert containers.output(id) == "last words\n"
    assert [path.name for path in (containers.state_dir / "containers" / id).iterdir()] == ["log"]


def test_containers_do_not_see_each_others_files(containers: Containers):
    id = containers.start("sh", "-c", "echo secret > /opt/secret; echo up; exec sleep 1000")
    containers.read_until(id, "up")
    status, text = containers.run(
        "sh",
        "-c",
        f"ls -A {containers.state_dir} {containers.run_dir}; ls /opt/secret",
        workdir="/",
    )
    assert status != 0
    assert id not in text
    assert "secret\n" not in text.replace("/opt/secret", "")


def test_user_workdir_environment_and_hostname_are_as_asked(containers: Containers):
    status, text = containers.run(
        "sh",
        "-c",
        "id -u; id -g; pwd; hostname; echo $COLOUR; echo $HOME; cat /etc/hostname",
        user="nobody",
        workdir="/usr/share",
        env=("COLOUR=sea green",),
        hostname="lighthouse",
    )
    assert status == 0
    assert text.splitlines() == [
        "65534", "65534", "/usr/share", "lighthouse", "sea green", "/nonexistent", "lighthouse"
    ]  # fmt: skip


def test_a_numeric_user_has_no_rights(containers: Containers):
    status, text = containers.run("sh", "-c", "id; cat /proc/self/status", user="1234:4321")
    assert status == 0
    assert "uid=1234 gid=4321" in text
    assert capabilities(text) == set()


def test_the_hosts_and_resolver_files_are_given_and_can_change(containers: Containers):
    runtime = containers.runtime
    id = containers.start(
        "sh",
        "-c",
        "cat /etc/hosts /etc/resolv.conf; read _; cat /etc/hosts /etc/resolv.conf",
        hosts="192.0.2.1 first\n",
        resolv_conf="nameserver 127.0.0.11\n",
        interactive=True,
    )
    containers.read_until(id, "127.0.0.11")
    containers.do(runtime.update_hosts(id, "192.0.2.2 second and longer\n"))
    containers.do(runtime.update_resolv_conf(id, "#\n"))
    from linkspan.engine.runtime import AttachClient

    AttachClient(runtime.paths(id).bundle).close()  # ends its input
    assert containers.wait(id) in (0, 1)
    assert containers.output(id).endswith("192.0.2.2 second and longer\n#\n")


def test_defaults_keep_the_network_as_it_is(containers: Containers):
    status, text = containers.run(
        "sh",
        "-c",
        "cat /proc/self/status; ip link set lo down && echo changed; "
        "touch /sys/kernel/x && echo wrote; echo 1 > /proc/sys/net/ipv4/ip_forward && echo wrote",
    )
    assert status != 0
    effective = capabilities(text)
    assert {NET_RAW, NET_BIND_SERVICE} <= effective
    assert not {NET_ADMIN, SYS_ADMIN} & effective
    assert "NoNewPrivs:\t1" in text
    assert "Seccomp:\t2" in text
    assert "changed" not in text
    assert "wrote" not in text
    assert "Read-only file system" in text


def test_in_the_daemons_network_a_container_cannot_change_it(containers: Containers):
    status, text = containers.run(
        "sh", "-c", "readlink /proc/self/ns/net; ip link set lo down; "
        "ip link add span7 type bridge",
        netns=None,
    )  # fmt: skip
    assert status != 0
    inode = os.stat(containers.home.path).st_ino
    assert f"net:[{inode}]" in text
    assert text.count("Operation not permitted") == 2
    assert "UP" in containers.run("ip", "-br", "link", "show", "lo", netns=None)[1]


def test_a_network_namespace_of_its_own_is_joined_and_opened_for_low_ports(containers: Containers):
    status, text = containers.run(
        "sh",
        "-c",
        "readlink /proc/self/ns/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start "
        "/proc/sys/net/ipv4/ping_group_range",
        user="nobody",
    )
    assert status == 0
    inode = os.stat(containers.own.path).st_ino
    assert text.split() == [f"net:[{inode}]", "0", "0", "2147483647"]


def test_a_privileged_container_may_change_its_network(containers: Containers):
    status, text = containers.run(
        "sh", "-c", "cat /proc/self/status; ip link add span7 type bridge && ip -br link",
        privileged=True,
    )  # fmt: skip
    assert status == 0, text
    assert {NET_ADMIN, SYS_ADMIN} <= capabilities(text)
    assert "NoNewPrivs:\t0" in text
    assert "span7" in text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 42), (signal.SIGKILL, 137)])
def test_signals_reach_the_program(containers: Containers, number: int, status: int):
    id = containers.start("sh", "-c", "trap 'exit 42' TERM; echo up; while :; do sleep 0.05; done")
    containers.read_until(id, "up")
    containers.do(containers.runtime.kill(id, number))
    assert containers.wait(id) == status


def test_a_signal_for_all_reaches_the_children_too(containers: Containers):
    program = "sh -c 'trap \"echo child; exit\" USR1; echo up; while :; do sleep 0.05; done' & "
    id = containers.start("sh", "-c", f"trap 'echo parent' USR1; {program} wait; wait")
    containers.read_until(id, "up")
    containers.do(containers.runtime.kill(id, signal.SIGUSR1, all=True))
    containers.wait(id)
    assert {"child", "parent"} <= set(containers.output(id).split())


def test_a_program_killed_from_inside_counts_as_128_and_its_signal(containers: Containers):
    status, _ = containers.run("sh", "-c", "sh -c 'kill -9 $$'")
    assert status == 137


def test_a_root_directory_of_the_users_own_is_used_directly(containers: Containers, tmp_path: Path):
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    for folder in ("lib", "lib64", "usr"):
        (root / folder).mkdir()
    # Bind mounts would stay behind if the test died: the program is copied with its libraries.
    for name in ("/bin/sh", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"):
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(name).read_bytes())
        target.chmod(0o755)
    # As systemd-resolved has it: the link's target is made when the file is mounted.
    (root / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    status, text = containers.run(
        "/bin/sh",
        "-c",
        "while read line; do echo $line; done < /etc/resolv.conf; echo here > /left",
        rootfs=str(root),
        resolv_conf="nameserver 192.0.2.53\n",
    )
    assert (status, text) == (0, "nameserver 192.0.2.53\n")
    assert (root / "left").read_text() == "here\n"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"command": ("no-such-program",)}, "no-such-program"),
        ({"command": ("/etc/passwd",)}, "not an executable"),
        ({"command": ("/no/such",)}, "does not exist"),
        ({"command": ()}, "no command"),
        ({"user": "stranger"}, "stranger"),
        ({"user": "root:strangers"}, "strangers"),
        ({"workdir": "/nowhere"}, "/nowhere"),
        ({"workdir": "/etc/passwd"}, "not a directory"),
        ({"rootfs": "/nowhere"}, "/nowhere"),
        ({"rootfs": "/"}, "leave --rootfs out"),
        ({"env": ("COLOUR",)}, "COLOUR"),
    ],
)
def test_what_cannot_run_is_refused_and_leaves_nothing(
    containers: Containers, fields: dict[str, object], said: str
):
    fields = {"command": ("true",)} | fields
    spec = containers.spec(*fields.pop("command"), **fields)  # type: ignore[misc]
    with pytest.raises(InvalidRequest, match=said):
        containers.do(containers.runtime.create(spec))
    assert containers.leftovers(spec.id) == []


def test_what_the_runtime_refuses_is_explained_and_leaves_nothing(containers: Containers):
    spec = containers.spec("true", netns="/run/netns/linkspan-test-missing")
    with pytest.raises(RuntimeFailed, match="linkspan-test-missing") as failure:
        containers.do(containers.runtime.create(spec))
    assert "time=" not in str(failure.value)
    assert "\n" not in str(failure.value)
    assert containers.leftovers(spec.id) == []


@pytest.mark.parametrize("inodes", range(2, 27, 3))
def test_a_full_disk_is_said_and_leaves_nothing(
    containers: Containers, tmp_path: Path, inodes: int
):
    # Room for that many files and directories: it runs out at different steps.
    disk = tmp_path / "disk"
    disk.mkdir()
    options = f"size=64k,nr_inodes={inodes}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)
    try:
        runtime = Runtime(disk / "state", disk / "run")
        spec = containers.spec("true")
        refusals = (StorageFailed, RuntimeFailed, KernelRefused)
        with pytest.raises(refusals, match=r"(?i)no space left"):
            containers.do(runtime.create(spec))
        assert runtime.found() == []
        assert not [path for path in disk.rglob("*") if spec.id in str(path)]
        assert containers.leftovers(spec.id) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_running_container_cannot_be_made_again(containers: Containers):
    spec = containers.spec("sleep", "1000")
    containers.do(containers.runtime.create(spec))
    with pytest.raises(Conflict):
        containers.do(containers.runtime.create(spec))
    assert containers.runtime.state(spec.id).status == "created"


def test_many_containers_can_be_made_at_once(containers: Containers):
    import asyncio

    specs = [containers.spec("sh", "-c", f"exit {number}") for number in range(6)]

    async def live(spec) -> int:
        await containers.runtime.create(spec)
        await containers.runtime.start(spec.id)
        return await containers.runtime.wait(spec.id)

    async def live_all() -> list[int]:
        return await asyncio.gather(*map(live, specs))

    assert containers.do(live_all()) == list(range(6))


def test_waiting_for_what_does_not_exist_is_refused(containers: Containers):
    with pytest.raises(NotFound):
        containers.wait("0" * 64)
    with pytest.raises(Conflict):
        containers.do(containers.runtime.kill("0" * 64, signal.SIGTERM))


def test_a_missing_program_is_named(containers: Containers):
    runtime = Runtime(containers.state_dir, containers.run_dir, "no-such-runtime")
    with pytest.raises(Unsupported, match="no-such-runtime"):
        containers.do(runtime.create(containers.spec("true")))
