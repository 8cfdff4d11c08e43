"""Fixtures of tests that call the kernel layer itself, inside a namespace of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Namespace
from lab.reuse import Sites
from linkspan.kernel import namespaces
from linkspan.kernel.apply import Kernel


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    """Sites for the tests of one module, one after the other."""
    made = Sites()
    yield made
    made.close()


@pytest.fixture
def home(netns: Callable[[str], Namespace]) -> Iterator[Namespace]:
    """A fresh namespace that the test itself is in, with what it starts."""
    place = netns("home")
    with namespaces.opened(place.path) as descriptor, namespaces.entered(descriptor):
        yield place


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder for namespaces; those left in it are let go of."""
    yield tmp_path
    for name in namespaces.held_in(str(tmp_path / "netns")):
        namespaces.delete(str(tmp_path / "netns" / name))


@pytest.fixture
def kernel(home: Namespace, run_dir: Path) -> Iterator[Kernel]:
    """A writer whose host namespace is `home`."""
    made = Kernel(str(run_dir))
    yield made
    made.close()


@pytest.fixture
def ip() -> Callable[..., Any]:
    """`ip -j` in the test's namespace, or the one held on `path`: what the kernel says."""

    def run(words: str, path: str | None = None) -> Any:
        enter = ["nsenter", f"--net={path}"] if path else []
        result = subprocess.run(
            [*enter, "ip", "-j", "-d", *words.split()], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"ip {words}: {result.stderr}"
        return json.loads(result.stdout) if result.stdout.strip() else []

    return run


@pytest.fixture
def as_nobody() -> Callable[[str], str]:
    """Run a text of Python as a user without rights, from our sources; what it prints.

    The interpreter and its packages may be in a folder that nobody else may enter, so the
    process drops its rights itself when all is loaded.
    """

    def run(text: str) -> str:
        code = (
            "import os, ctypes\n"
            "import linkspan.kernel.host, linkspan.kernel.machine, linkspan.inventory\n"
            "import linkspan.kernel.netfilter.rulesets\n"
            "os.setgroups([]); os.setresgid(65534, 65534, 65534)\n"
            "os.setresuid(65534, 65534, 65534)\n"
            "assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0\n"  # not dumpable
        )
        done = subprocess.run(
            [sys.executable, "-c", code + text], capture_output=True, text=True, check=False,
            timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
