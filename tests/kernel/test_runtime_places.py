"""Scratch overlays on hosts of other kinds: more mounts, no room for an upper layer, no root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, secrets, sys
from pathlib import Path
from linkspan.engine.runtime import ContainerSpec, Runtime
async def live(directory, *command):
    runtime = Runtime(Path(directory) / "state", Path(directory) / "run")
    id = secrets.token_hex(32)
    spec = ContainerSpec(id=id, name="crate", hostname="crate", command=command)
    await runtime.create(spec)
    await runtime.start(id)
    status = await runtime.wait(id)
    print(b"".join(entry.data for entry in runtime.log_entries(id)).decode(), end="")
    await runtime.delete(id)
    assert runtime.found() == []
    sys.exit(status)
asyncio.run(live(*sys.argv[1:]))
"""


@pytest.fixture
def run_inside(tmp_path: Path, require: Callable[..., None]) -> Callable[..., str]:
    """Runs a container from namespaces of its own, in which a shell script prepares the host."""
    require("runc", "conmon")

    def run(unshare: list[str], prepare: str, directory: str, script: str) -> str:
        daemon = ["exec", sys.executable, "-c", '"$PROGRAM"', directory, "sh", "-c", '"$SCRIPT"']
        result = subprocess.run(
            ["unshare", *unshare, "sh", "-e", "-c", f"{prepare}\n{' '.join(daemon)}"],
            cwd=tmp_path,
            env=os.environ
            | {"PROGRAM": PROGRAM, "SCRIPT": script, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_what_else_is_mounted_is_laid_over_too(run_inside: Callable[..., str], tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "file").write_text("from the disk\n")
    prepare = "mount --bind disk /srv; mount -t tmpfs none /media; touch /media/memory"
    script = "cat /srv/file; echo changed > /srv/file; cat /srv/file; ls /media"
    text = run_inside(["-nm"], prepare, str(tmp_path / "d"), script)
    assert text == "from the disk\nchanged\n"
    assert (tmp_path / "disk" / "file").read_text() == "from the disk\n"


def test_memory_holds_the_changes_where_the_disk_cannot(
    run_inside: Callable[..., str], tmp_path: Path
):
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = "lowerdir=lower,upperdir=upper,workdir=work"  # an overlay cannot hold an upper layer
    prepare = f"mount -t overlay none -o {options} merged"
    text = run_inside(
        ["-nm"], prepare, "merged/d", "touch /opt/new-here; ls /opt/*here; grep ' / ' /proc/mounts"
    )
    assert "/opt/new-here" in text
    assert "overlay / overlay" in text
    assert not os.path.exists("/opt/new-here")
    assert not list((tmp_path / "upper").rglob("new-here"))


def test_root_of_a_user_namespace_can_run_containers(
    run_inside: Callable[..., str], tmp_path: Path
):
    flags = ["-rnm", "-pf", "--mount-proc"]
    script = "id -u; cat /etc/hostname; touch /usr/new-here /etc/new-here && echo wrote; ls -d /bin"
    text = run_inside(flags, "mount --bind /etc /srv", str(tmp_path / "d"), script)
    assert text == "0\ncrate\nwrote\n/bin\n"
    assert not os.path.exists("/usr/new-here")
    assert not os.path.exists("/etc/new-here")


def test_what_cannot_be_laid_over_in_a_user_namespace_is_read_only(
    run_inside: Callable[..., str], tmp_path: Path
):
    # What was mounted before the user namespace began is locked: /srv cannot be a lower layer.
    (tmp_path / "disk").mkdir()
    inner = tmp_path / "inner.sh"
    inner.write_text(
        "mkdir /srv/memory /srv/disk; mount -t tmpfs none /srv/memory; mount --bind disk /srv/disk;"
        f'exec unshare -rnm -pf --mount-proc {sys.executable} -c "$PROGRAM" "$1" sh -c "$2"'
    )
    prepare = f'mount -t tmpfs none /srv; exec sh {inner} {tmp_path}/d "$SCRIPT"'
    script = "for f in /srv/a /srv/memory/a /srv/disk/a; do touch $f 2>&1 && echo wrote $f; done"
    said = run_inside(["-m"], prepare, "unused", script).splitlines()
    assert [line.endswith("Read-only file system") for line in said] == [True, True, False]
    assert said[2] == "wrote /srv/disk/a"
    assert list((tmp_path / "disk").iterdir()) == []
