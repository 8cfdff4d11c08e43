"""The end of a purge: the files of the daemon, and a purge where no daemon runs."""

from __future__ import annotations

import asyncio
import contextlib
import os

from linkspan.api.reports import ReportView, show_report
from linkspan.api.rights import check_rights
from linkspan.engine.engine import STORE_FILE, Engine
from linkspan.engine.reconcile import Report
from linkspan.engine.settings import Settings

STATE_FILES = (STORE_FILE, f"{STORE_FILE}-wal", f"{STORE_FILE}-shm", f"{STORE_FILE}.lock", "lock")
RUN_FILES = ("lock",)
FOLDERS = ("containers", "oci", "netns")
"""Folders in both that are empty when everything was purged."""


def purge_host(settings: Settings) -> ReportView:
    """Do what the daemon would: open the engine, purge, close it, remove the files.

    Raises:
        PermissionRefused: this is not root.
        Conflict: a daemon works in this namespace or with these folders, on another socket.
    """
    check_rights("purging")
    return show_report(asyncio.run(_purge(settings)))


async def _purge(settings: Settings) -> Report:
    engine = await Engine.open(settings)
    try:
        report = await engine.purge()
        assert isinstance(report, Report)
    finally:
        await engine.close()
    if not report.failed:
        remove_files(settings)
    return report


def remove_files(settings: Settings) -> None:
    """Remove our files and, where nothing else is in them, our folders."""
    for directory, names in ((settings.state_dir, STATE_FILES), (settings.run_dir, RUN_FILES)):
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name))
        for folder in (*(os.path.join(directory, name) for name in FOLDERS), directory):
            # What is not empty is not ours, or could not be purged and was told.
            with contextlib.suppress(OSError):
                os.rmdir(folder)
