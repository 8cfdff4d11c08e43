"""Looking up paths, programs and users in a root file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkspan.engine.runtime.rootfs import (
    Identity,
    check_program,
    check_workdir,
    look_up_user,
    resolve,
)
from linkspan.errors import InvalidRequest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("etc", "usr/bin", "home/ann"):
        (root / folder).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\nbroken line\n"
    )
    (root / "etc/group").write_text("users:x:100:\ndisk:x:6:ann,bob\naudio:x:29:ann\nx:y\n")
    program = root / "usr/bin/tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (root / "usr/bin/notes").write_text("not a program")
    return root


@pytest.mark.parametrize(
    ("link", "target", "path", "expected"),
    [
        ("etc/a", "/usr", "/etc/a/bin", "usr/bin"),
        ("etc/a", "../usr", "etc/a/bin", "usr/bin"),
        ("etc/a", "../../../../../../usr", "/etc/a", "usr"),
        ("etc/a", "/run/missing/file", "/etc/a", "run/missing/file"),
        ("etc/a", "b", "/etc/a/../../..", ""),
    ],
)
def test_links_stay_inside(root: Path, link: str, target: str, path: str, expected: str):
    (root / link).symlink_to(target)
    assert resolve(root, path) == root / expected


def test_a_loop_of_links_is_refused(root: Path):
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(InvalidRequest, match="symbolic links"):
        resolve(root, "/a")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (), "/root")),
        ("root", Identity(0, 0, (), "/root")),
        ("ann", Identity(1000, 100, (6, 29), "/home/ann")),
        ("1000", Identity(1000, 100, (6, 29), "/home/ann")),
        ("ann:disk", Identity(1000, 6, (), "/home/ann")),
        ("ann:77", Identity(1000, 77, (), "/home/ann")),
        ("4242", Identity(4242, 0, (), "/")),
        ("4242:4243", Identity(4242, 4243, (), "/")),
    ],
)
def test_users_are_found(root: Path, user: str, expected: Identity):
    assert look_up_user(root, user) == expected


@pytest.mark.parametrize("user", ["bob", "ann:nobody", "4294967295", "ann:4294967295", ":6", "6:"])
def test_strangers_are_refused(root: Path, user: str):
    with pytest.raises(InvalidRequest):
        look_up_user(root, user)


def test_without_lists_numbers_do(tmp_path: Path):
    assert look_up_user(tmp_path, "") == Identity(0, 0, (), "/")
    with pytest.raises(InvalidRequest, match="/etc/passwd"):
        look_up_user(tmp_path, "ann")


@pytest.mark.parametrize(
    ("program", "workdir"),
    [("tool", "/"), ("/bin/tool", "/"), ("bin/tool", "/"), ("./tool", "/bin")],
)
def test_programs_are_found(root: Path, program: str, workdir: str):
    check_program(root, program, "/sbin:/bin", workdir)


@pytest.mark.parametrize("program", ["missing", "notes", "/usr/bin/notes", "/usr/bin", "./tool"])
def test_what_is_no_program_is_refused(root: Path, program: str):
    with pytest.raises(InvalidRequest, match=program):
        check_program(root, program, "/sbin:/bin", "/")


def test_working_directories_must_exist(root: Path):
    check_workdir(root, "/bin")
    for missing in ("/nowhere", "/etc/passwd"):
        with pytest.raises(InvalidRequest, match=missing):
            check_workdir(root, missing)
