"""The smaller pure parts: overlays, conmon's words, detach keys, programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkspan.engine.runtime.attach import DetachKeys
from linkspan.engine.runtime.conmon import explain_failure, simplify
from linkspan.engine.runtime.overlay import HostMount, choose_mounts, overlay_options
from linkspan.engine.runtime.paths import ContainerPaths
from linkspan.engine.runtime.programs import VARIABLE, find_programs
from linkspan.errors import Unsupported

DISKS = frozenset({"ext4", "nfs4", "fuse"})


def test_only_file_systems_with_programs_are_laid_over_the_root():
    mounts = [
        HostMount("/", "ext4"),
        HostMount("/proc", "proc"),
        HostMount("/home", "ext4"),
        HostMount("/home/ann", "nfs4"),
        HostMount("/srv/sync", "fuse.sshfs"),
        HostMount("/run/media/disk", "ext4"),
        HostMount("/runner", "ext4"),
        HostMount("/var/cache", "ext4"),
        HostMount("/var/cache", "tmpfs"),
        HostMount("/var/lib/linkspan", "ext4"),
    ]
    chosen = choose_mounts(mounts, DISKS, ("/run", "/proc", "/var/lib/linkspan"))
    assert chosen == ["/home", "/home/ann", "/srv/sync", "/runner"]


def test_what_the_kernel_would_take_apart_is_escaped():
    assert overlay_options("/a:b,c\\d").startswith("lowerdir=/a\\:b\\,c\\\\d,upperdir=upper")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "runc create failed: unable to start container process: exec: no such file",
            "exec: no such file",
        ),
        (
            "runc create failed: unable to start container process: "
            "error during container init: open /x",
            "open /x",
        ),
        ('time="2024" level=error msg="bad \\"x\\"\nhere"', 'bad "x" here'),
        ("plain\n  words\n", "plain words"),
    ],
)
def test_the_runtimes_words_are_made_readable(said: str, expected: str):
    assert simplify(said) == expected


def test_the_runtimes_own_log_goes_before_what_conmon_passed_on(tmp_path: Path):
    paths = ContainerPaths(tmp_path, tmp_path, tmp_path)
    assert "unclear" in str(explain_failure(paths, "unclear", "box"))
    paths.runtime_log.write_text(
        'nonsense\n{"level":"warning","msg":"a"}\n{"level":"error","msg":"the reason"}\n'
    )
    assert str(explain_failure(paths, "unclear", "box")) == "box: the reason"


def feed(keys: DetachKeys, pieces: list[bytes]) -> tuple[bytes, bool]:
    passed = b""
    for piece in pieces:
        part, leave = keys.take(piece)
        passed += part
        if leave:
            return passed, True
    return passed, False


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"abc"], (b"abc", False)),
        ([b"ab\x10\x11cd"], (b"ab", True)),
        ([b"ab\x10", b"\x11"], (b"ab", True)),
        ([b"\x10", b"x"], (b"\x10x", False)),
        ([b"\x10", b"\x10", b"\x11"], (b"\x10", True)),
    ],
)
def test_detach_keys_are_found_across_pieces(pieces: list[bytes], expected: tuple[bytes, bool]):
    assert feed(DetachKeys(b"\x10\x11"), pieces) == expected


def test_without_detach_keys_everything_passes():
    assert DetachKeys(b"").take(b"\x10\x11") == (b"\x10\x11", False)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("linkspan.engine.runtime.programs.SEARCH_PATH", str(tmp_path))

    def install(*names: str) -> None:
        for name in names:
            (tmp_path / name).write_text("")
            (tmp_path / name).chmod(0o755)

    return install


def test_runc_goes_before_crun(installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    installed("crun", "conmon")
    assert find_programs().runtime == str(tmp_path / "crun")
    assert find_programs().is_crun
    installed("runc")
    assert find_programs().runtime == str(tmp_path / "runc")
    monkeypatch.setenv(VARIABLE, "crun")
    assert find_programs().runtime == str(tmp_path / "crun")
    assert find_programs("runc").runtime == str(tmp_path / "runc")


@pytest.mark.parametrize(("there", "missing"), [((), "runc"), (("runc",), "conmon")])
def test_a_missing_package_is_named(installed, there: tuple[str, ...], missing: str):
    installed(*there)
    with pytest.raises(Unsupported, match=f"install the package {missing}"):
        find_programs()
