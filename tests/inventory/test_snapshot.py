"""Snapshots on a disk: private, whole, never over another file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from linkspan.dataplane import DataPlane, Link
from linkspan.errors import Conflict, PermissionRefused, SnapshotUnreadable, StorageFailed
from linkspan.inventory.records import HostView
from linkspan.inventory.snapshot import load, load_header, save

VIEW = HostView(plane=DataPlane((Link(name="lo"),)), host="quay", taken=5.0)


def test_what_was_saved_is_loaded(tmp_path: Path):
    path = str(tmp_path / "a.lks")
    size = save(VIEW, path)
    assert load(path) == VIEW
    header, seen = load_header(path)
    assert (header.host, seen) == ("quay", size)
    assert os.listdir(tmp_path) == ["a.lks"]


def test_only_its_owner_may_read_it(tmp_path: Path):
    path = tmp_path / "a.lks"
    old = os.umask(0)
    try:
        save(VIEW, str(path))
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path):
    path = tmp_path / "a.lks"
    path.write_text("precious")
    with pytest.raises(Conflict, match=r"exists already.*--force"):
        save(VIEW, str(path))
    assert path.read_text() == "precious"
    save(VIEW, str(path), force=True)
    assert load(str(path)) == VIEW
    assert os.listdir(tmp_path) == ["a.lks"]


def test_a_link_that_leads_nowhere_is_something_that_is_there(tmp_path: Path):
    path = tmp_path / "a.lks"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict):
        save(VIEW, str(path))
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_is_never_replaced(tmp_path: Path):
    with pytest.raises(Conflict, match="is a folder"):
        save(VIEW, str(tmp_path), force=True)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(StorageFailed, match="No such file or directory"):
        save(VIEW, str(tmp_path / "no" / "a.lks"))


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    with pytest.raises(SnapshotUnreadable, match="No such file"):
        load(str(tmp_path / "no.lks"))
    with pytest.raises(SnapshotUnreadable, match="Is a directory"):
        load(str(tmp_path))


def test_a_file_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("linkspan.inventory.snapshot.LARGEST", 1 << 20)
    with pytest.raises(SnapshotUnreadable, match="has no end"):
        load("/dev/zero")
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(SnapshotUnreadable, match="has 5 MiB"):
        load(str(tmp_path / "holes"))


def test_the_owner_of_sudo_owns_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    monkeypatch.setenv("SUDO_UID", "12345")
    monkeypatch.setenv("SUDO_GID", "23456")
    save(VIEW, str(tmp_path / "a.lks"))
    status = (tmp_path / "a.lks").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 23456, 0o600)


def test_who_may_not_write_or_read_is_told(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("somebody else's folder is needed")
    save(VIEW, str(tmp_path / "a.lks"))
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        said = []
        for attempt in (
            lambda: load(str(tmp_path / "a.lks")),
            lambda: save(VIEW, str(tmp_path / "b.lks")),
        ):
            try:
                attempt()
            except (SnapshotUnreadable, PermissionRefused) as error:
                said.append(f"{type(error).__name__}: {error}")
        os.write(write, "\n".join(said).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read) as answers:
        said = answers.read().splitlines()
    assert said[0].startswith("SnapshotUnreadable")
    assert "no permission" in said[0]
    assert said[1].startswith("PermissionRefused: cannot write")


FULL = """
import os, sys
from linkspan.dataplane import DataPlane, Link
from linkspan.errors import StorageFailed
from linkspan.inventory.records import HostView
from linkspan.inventory.snapshot import load, save

small = HostView(plane=DataPlane((Link(name="lo"),)))
noise = [Link(name=f"l{i}", alias=os.urandom(500).hex()) for i in range(3000)]
save(small, "a.lks")
try:
    save(HostView(plane=DataPlane(noise)), "a.lks", force=True)
except StorageFailed as error:
    print(error)
assert load("a.lks") == small
assert os.listdir(".") == ["a.lks"], os.listdir(".")
save(small, "b.lks")
"""


@pytest.mark.kernel
def test_a_full_disk_loses_nothing(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o size=256k none "$1" && cd "$1" && exec "$2" -c "$3"'
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh",
         str(tmp_path / "disk"), sys.executable, FULL],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cannot write a.lks: No space left on device; nothing was written" in done.stdout
