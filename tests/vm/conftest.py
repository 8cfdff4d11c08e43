"""Runs this folder's tests in a virtual machine with Debian's kernel: one boot for all of them.

On the host, the first test of the folder starts `scripts/vm-shell`, and pytest runs there with
the same tests. The guest writes every report to a folder that both see; here each test waits
for its own and shows it as if it had run here. In the guest, tests simply run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
IN_GUEST = bool(os.environ.get("LINKSPAN_VM_GUEST"))
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
REPORTS, ARGUMENTS, OUTPUT = "reports", "arguments", "output"
PATIENCE = 300.0
"""Seconds without any news from the guest after which it counts as stuck; booting is 20."""
LAST_PHASE = "teardown"


class Guest:
    """A virtual machine in which pytest runs some tests."""

    def __init__(self, tests: list[str]) -> None:
        self._exchange = Path(tempfile.mkdtemp(prefix="linkspan-vm-"))
        (self._exchange / ARGUMENTS).write_text("\n".join(tests))
        (self._exchange / REPORTS).touch()
        # Plugins that this project does not need take long to import in an emulated machine.
        command = (
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python -m pytest -p no:cacheprovider "
            f"@{self._exchange / ARGUMENTS}"
        )
        self._log = (self._exchange / OUTPUT).open("wb")
        self._process = subprocess.Popen(
            [ROOT / "scripts/vm-shell", "--exchange", self._exchange, command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LINKSPAN_VM_REPORTS": str(self._exchange / REPORTS)},
        )
        self._reports = (self._exchange / REPORTS).open()
        self._pending = ""
        self._seen: dict[str, list[dict[str, Any]]] = {}

    def reports(self, test: str) -> list[dict[str, Any]]:
        """Wait for all reports of one test; fewer than three when the guest has ended."""
        deadline = time.monotonic() + PATIENCE
        while not self._is_complete(test):
            ended = self._process.poll() is not None
            if self._read():
                deadline = time.monotonic() + PATIENCE
            elif ended or time.monotonic() > deadline:
                self.close()
                break
            else:
                time.sleep(0.05)
        return self._seen.get(test, [])

    def explain(self) -> str:
        """Why there are no reports: what the guest, or its console, said last."""
        said = (self._exchange / OUTPUT).read_text(errors="replace")[-8000:]
        return f"the guest ended (status {self._process.returncode}) without this test:\n{said}"

    def close(self) -> None:
        """End the machine, if it has not ended by itself."""
        if self._process.poll() is None:
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process.kill()
        self._process.wait()
        self._log.close()

    def remove_files(self) -> None:
        """Remove what the machine and this process told each other."""
        self._reports.close()
        shutil.rmtree(self._exchange, ignore_errors=True)

    def _is_complete(self, test: str) -> bool:
        seen = self._seen.get(test)
        return bool(seen) and seen[-1]["when"] == LAST_PHASE

    def _read(self) -> bool:
        *lines, self._pending = (self._pending + self._reports.read()).split("\n")
        for line in lines:
            report = json.loads(line)
            self._seen.setdefault(report["nodeid"], []).append(report)
        return bool(lines)


_guest: Guest | None = None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the guest: hand a report to the host."""
    path = os.environ.get("LINKSPAN_VM_REPORTS")
    if IN_GUEST and path and _config is not None:
        data = _config.hook.pytest_report_to_serializable(config=_config, report=report)
        with open(path, "a") as reports:
            reports.write(json.dumps(data) + "\n")


_config: pytest.Config | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _config
    _config = config


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """On the host: have the guest run this test, and show what came of it."""
    global _guest
    if IN_GUEST or not item.path.is_relative_to(FOLDER) or os.geteuid() != 0:
        return None
    lacking = _find_lacking()
    if lacking and not IN_CI:
        reports = [_report(item, "skipped", (str(item.path), 0, f"Skipped: {lacking}"))]
    elif lacking:
        reports = [_report(item, "failed", f"in CI a missing package is a failure: {lacking}")]
    else:
        if _guest is None:
            items = [one for one in item.session.items if one.path.is_relative_to(FOLDER)]
            _guest = Guest([one.nodeid for one in items])
        hook = item.config.hook.pytest_report_from_serializable
        found = _guest.reports(item.nodeid)
        reports = [hook(config=item.config, data=data) for data in found]
        if not reports or reports[-1].when != LAST_PHASE:
            reports.append(_report(item, "failed", _guest.explain()))
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_sessionfinish() -> None:
    """End the guest."""
    global _guest
    if _guest is not None:
        _guest.close()
        _guest.remove_files()
        _guest = None


def _find_lacking() -> str:
    venv = Path(os.environ.get("LINKSPAN_VENV", ROOT / ".venv"))
    programs = {"qemu-system-x86_64": None, "depmod": None, "vng": str(venv / "bin")}
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [
        name for name, where in programs.items() if not shutil.which(name, path=where or path)
    ]
    return f"not installed: {', '.join(missing)} (scripts/setup installs them)" if missing else ""


def _report(item: pytest.Item, outcome: Any, why: Any) -> pytest.TestReport:
    return pytest.TestReport(
        item.nodeid, item.location, dict.fromkeys(item.keywords, 1), outcome, why, "setup"
    )
