"""Fixtures for all tests, and the rules for skipping: with a reason, and in CI not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from lab import Lab, Namespace

TESTS = Path(__file__).parent
NEEDS_ROOT = {"kernel", "peers", "vm"}
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and skip those that need root where there is none."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in NEEDS_ROOT:
            item.add_marker(folder)
        needed = NEEDS_ROOT.intersection(mark.name for mark in item.iter_markers())
        if needed and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root for network namespaces"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of a failed test's daemons."""
    report = yield
    _fail_what_ci_should_have(report)
    used = getattr(item, "funcargs", {})
    lab = used.get("lab") or getattr(used.get("site"), "lab", None)
    if report.failed and report.when == "call" and isinstance(lab, Lab):
        for daemon in lab.daemons:
            if daemon.log.exists():
                tail = daemon.log.read_text(errors="replace")[-20000:]
                report.sections.append((f"daemon log {daemon.log}", tail))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Hold modules that skip themselves to the same rule."""
    report = yield
    _fail_what_ci_should_have(report)
    return report


def _fail_what_ci_should_have(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI everything was installed: what skips for want of a package has failed."""
    reason = str(report.longrepr)
    if IN_CI and report.skipped and re.search(r"could not import|scripts/setup installs", reason):
        report.outcome = "failed"
        report.longrepr = f"in CI a missing package is a failure: {reason}"


@pytest.fixture
def require() -> Callable[..., None]:
    """Programs a test cannot do without: `require("runc", "conmon")`.

    A missing one skips the test with a reason; in CI it fails it, since there it was installed.
    """

    def require_programs(*names: str) -> None:
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/lib/cni"
        missing = [name for name in names if not shutil.which(name, path=path)]
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)} (scripts/setup installs them)")

    return require_programs


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A laboratory of its own for this test; see tests/lab."""
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    with Lab() as made:
        yield made


@pytest.fixture
def netns(lab: Lab) -> Callable[[str], Namespace]:
    """Makes uniquely named namespaces with loopback up; gone after the test, also if it fails."""
    return lab.namespace
