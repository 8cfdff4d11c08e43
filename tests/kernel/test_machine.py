"""Every network namespace of the machine is found once, whatever keeps it alive."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Namespace
from linkspan.kernel import namespaces
from linkspan.kernel.machine import FoundNamespace, find_namespaces, look_over


def identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def found_at(path: str, found: list[FoundNamespace]) -> FoundNamespace:
    (one,) = [one for one in found if one.identity == identity(path)]
    return one


@pytest.fixture
def unshared() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Processes in namespaces of their own; they say when they are there."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["unshare", *options, "sh", "-c", "echo here; exec sleep 60"], stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_each_is_listed_once_and_one_s_own_is_among_them(netns: Callable[[str], Namespace]) -> None:
    place = netns("one")
    found = find_namespaces()
    identities = [one.identity for one in found]
    assert len(set(identities)) == len(identities)
    assert identity("/proc/self/ns/net") in identities
    assert (found_at(place.path, found).path, found_at(place.path, found).kind) == (
        place.path, "named",
    )  # fmt: skip


def test_a_process_s_namespace_is_found_by_it(
    unshared: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = unshared("--net")
    one = found_at(f"/proc/{process.pid}/ns/net", find_namespaces())
    assert (one.path, one.kind, one.pids) == (
        f"/proc/{process.pid}/ns/net", "process", (process.pid,),
    )  # fmt: skip


def test_a_named_one_lists_its_processes(netns: Callable[[str], Namespace]) -> None:
    place = netns("busy")
    process = subprocess.Popen(["nsenter", f"--net={place.path}", "sleep", "60"])
    try:
        while True:  # until it has entered
            one = found_at(place.path, find_namespaces())
            if one.pids:
                break
        assert (one.kind, one.pids) == ("named", (process.pid,))
    finally:
        process.kill()
        process.wait()


def test_one_that_only_an_open_file_holds(tmp_path: Path) -> None:
    path = str(tmp_path / "held")
    namespaces.create(path).socket.close()
    descriptor = namespaces.open_path(path)
    try:
        namespaces.delete(path)
        one = found_at(f"/proc/self/fd/{descriptor}", find_namespaces())
        assert (one.path, one.kind) == (f"/proc/{os.getpid()}/fd/{descriptor}", "open-file")
        with namespaces.opened(one.path) as again:
            assert namespaces.identity(again) == one.identity[1]
    finally:
        os.close(descriptor)


def test_one_that_is_mounted_elsewhere(tmp_path: Path) -> None:
    path = str(tmp_path / "a file of ours")
    namespaces.create(path).socket.close()
    try:
        assert found_at(path, find_namespaces()).kind == "mount"
        assert found_at(path, find_namespaces()).path == path
        assert found_at(path, find_namespaces((str(tmp_path),))).kind == "named"
    finally:
        namespaces.delete(path)


def test_one_that_is_mounted_where_only_another_process_sees_it(
    unshared: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = unshared("--mount", "--propagation", "private")
    file = tmp_path / "hidden"
    file.touch()
    subprocess.run(
        [
            *("nsenter", f"--mount=/proc/{process.pid}/ns/mnt"),
            *("unshare", "--net", "mount", "--bind", "/proc/self/ns/net", str(file)),
        ],
        check=True,
    )
    assert file.stat().st_size == 0
    hidden = f"/proc/{process.pid}/root{file}"
    assert identity(hidden) != identity(str(file))
    one = found_at(hidden, find_namespaces())
    assert one.kind == "mount"
    with namespaces.opened(one.path) as descriptor:
        assert namespaces.identity(descriptor) == one.identity[1]


def test_files_that_hold_nothing_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "left by a crash").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("/nonexistent")
    (tmp_path / "another kind").symlink_to("/proc/self/ns/mnt")
    (tmp_path / "own").symlink_to("/proc/self/ns/net")
    found = find_namespaces((str(tmp_path), str(tmp_path / "missing")))
    assert [one.path for one in found if one.kind == "named"] == [str(tmp_path / "own")]


def test_without_root_it_says_what_it_could_not_see(
    unshared: Callable[..., subprocess.Popen[bytes]], as_nobody: Callable[[str], str]
) -> None:
    hidden = unshared("--net")
    said = as_nobody(
        "from linkspan.kernel.machine import look_over\n"
        "machine = look_over()\n"
        "print(*(one.path for one in machine.namespaces))\n"
        "print(*machine.unseen, sep='\\n')"
    )
    paths, *unseen = said.splitlines()
    assert f"/proc/{hidden.pid}/ns/net" not in paths.split()
    assert len(paths.split()) >= 1
    assert any("network namespaces of" in one and "run as root" in one for one in unseen)
    assert any("open files of" in one and "run as root" in one for one in unseen)


def test_who_holds_a_socket_is_known(lab_socket: int) -> None:
    assert os.getpid() in look_over().files.sockets[lab_socket]


@pytest.fixture
def lab_socket() -> Iterator[int]:
    import socket

    with socket.socket() as one:
        yield os.fstat(one.fileno()).st_ino
