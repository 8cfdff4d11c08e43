"""What the measurements ran on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import linkspan
from benchmarks import cni, docker


def describe_machine() -> dict[str, str]:
    """Kernel, processors, memory, load, and the versions of everybody who takes part."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    described = {
        "kernel": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "processors": f"{len(os.sched_getaffinity(0))} ({_processor()})",
        "memory": f"{pages / 2**30:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "linkspan": linkspan.__version__ + _commit(),
        "Python": platform.python_version(),
        "nft": _first_line("nft", "--version"),
    }
    if cni.is_there():
        described["CNI plugins"] = cni.version()
    if docker.is_there():
        described["Docker"] = docker.version()
    return described


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    root = Path(__file__).resolve().parents[1]
    if not shutil.which("git") or not (root / ".git").exists():
        return ""
    found = _first_line("git", "-C", str(root), "rev-parse", "--short", "HEAD")
    return f" ({found})" if found else ""


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0].strip()
