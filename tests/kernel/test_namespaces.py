"""Namespaces are made, held, entered and let go of without a thread getting lost."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from linkspan.errors import KernelRefused, NotFound
from linkspan.kernel import namespaces
from linkspan.kernel.netlink import links
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket
from linkspan.kernel.session import index_of_link


def own_inode() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


@pytest.fixture
def path(run_dir: Path) -> str:
    (run_dir / "netns").mkdir()
    return str(run_dir / "netns" / "blue")


def make(path: str) -> int:
    created = namespaces.create(path)
    created.socket.close()
    return created.inode


def test_a_new_namespace_is_another_one_with_lo_up(path: str) -> None:
    before = own_inode()
    inode = make(path)
    assert own_inode() == before != inode
    show = ["nsenter", f"--net={path}", "ip", "-br", "link", "show", "up"]
    assert subprocess.check_output(show, text=True).split()[0] == "lo"


def test_its_socket_works_inside(path: str) -> None:
    with namespaces.create(path).socket as sock:
        assert index_of_link(sock, "lo") == 1
        assert len(list(sock.dump(links.list_all()))) == 1


def test_a_name_is_taken_once(path: str) -> None:
    inode = make(path)
    with pytest.raises(KernelRefused, match="EEXIST"):
        namespaces.create(path)
    assert namespaces.held_in(os.path.dirname(path)) == {"blue": inode}


def test_without_a_folder_nothing_is_left_behind(run_dir: Path) -> None:
    with pytest.raises(KernelRefused, match="ENOENT"):
        namespaces.create(str(run_dir / "nowhere" / "blue"))
    assert own_inode() == os.stat("/proc/thread-self/ns/net").st_ino


def test_deleting_is_complete_and_can_be_repeated(path: str) -> None:
    make(path)
    namespaces.delete(path)
    assert not os.path.exists(path)
    namespaces.delete(path)


def test_deleting_lets_go_in_other_mount_namespaces_too(path: str) -> None:
    """A container that was started meanwhile has a copy of every mount."""
    make(path)
    holder = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 60"],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        mounts = Path(f"/proc/{holder.pid}/mountinfo")
        assert path in mounts.read_text()
        namespaces.delete(path)
        assert path not in mounts.read_text()
    finally:
        holder.kill()
        holder.wait()


def test_a_vanished_namespace_is_noticed(path: str) -> None:
    inode = make(path)
    assert not namespaces.has_vanished(path, inode)
    assert not namespaces.has_vanished(path, None)
    assert namespaces.has_vanished(path, inode + 1)
    namespaces.delete(path)
    assert namespaces.has_vanished(path, inode)


def test_a_file_without_a_namespace_is_told_apart(path: str) -> None:
    Path(path).touch()
    assert namespaces.held_in(os.path.dirname(path)) == {"blue": None}
    with pytest.raises(NotFound, match="another kind"):
        namespaces.open_path(path)


def test_the_namespace_of_a_process_is_found_by_its_number() -> None:
    with namespaces.opened(f"/proc/{os.getpid()}/ns/net") as descriptor:
        assert namespaces.identity(descriptor) == os.stat("/proc/self/ns/net").st_ino
    with pytest.raises(NotFound):
        namespaces.open_process(2**22 + 1)


def test_a_function_runs_inside_and_its_errors_come_out(path: str) -> None:
    inode = make(path)
    before = own_inode()
    with namespaces.opened(path) as descriptor:
        assert namespaces.inside(descriptor, own_inode) == inode
        with pytest.raises(ZeroDivisionError):
            namespaces.inside(descriptor, lambda: 1 // 0)
        assert own_inode() == before


def test_a_thread_leaves_after_an_error(path: str) -> None:
    make(path)
    before = own_inode()
    visited: list[int] = []

    def stumble(descriptor: int) -> None:
        with namespaces.entered(descriptor):
            visited.append(own_inode())
            raise RuntimeError

    with namespaces.opened(path) as descriptor, pytest.raises(RuntimeError):
        stumble(descriptor)
    assert own_inode() == before
    assert visited
    assert visited != [before]


def test_many_threads_make_namespaces_at_once_and_all_come_home(run_dir: Path) -> None:
    folder = run_dir / "netns"
    folder.mkdir()
    seen: list[tuple[int, int]] = []

    def work(number: int) -> None:
        before = own_inode()
        for turn in range(5):
            make(str(folder / f"n{number}-{turn}"))
        seen.append((before, own_inode()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(own_inode(), own_inode())] * 4
    held = namespaces.held_in(str(folder))
    assert len(held) == 20
    assert len(set(held.values())) == 20


def test_a_socket_keeps_its_namespace_and_lets_it_die(path: str, home: object) -> None:
    """A veth's far end falls with its namespace once no socket is open there."""
    created = namespaces.create(path)
    with NetlinkSocket(ROUTE) as here, namespaces.opened(path) as descriptor:
        from linkspan.dataplane import Link, Veth

        link = Link(name="v1", kind=Veth(peer_name="eth0"))
        assert here.request(links.create(link, lambda _: 0, descriptor)) == [None]
    namespaces.delete(path)
    with NetlinkSocket(ROUTE) as here:
        assert index_of_link(here, "v1") is not None
        created.socket.close()
        deadline = time.monotonic() + 10
        while index_of_link(here, "v1") is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
