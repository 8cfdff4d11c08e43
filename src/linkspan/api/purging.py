"""A purge where no daemon runs: its work, done here."""

from __future__ import annotations

import asyncio

from linkspan.api.reports import ReportView, show_report
from linkspan.api.rights import check_rights
from linkspan.engine.engine import Engine
from linkspan.engine.reconcile import Report
from linkspan.engine.settings import Settings
from linkspan.names.client import NamesService


def purge_host(settings: Settings) -> ReportView:
    """Do what the daemon would: open the engine, purge, close it.

    Raises:
        PermissionRefused: this is not root.
        Conflict: a daemon works in this namespace or with these folders, on another socket.
    """
    check_rights("purging")
    return show_report(asyncio.run(_purge(settings)))


async def _purge(settings: Settings) -> Report:
    engine = await Engine.open(
        settings, naming=NamesService(settings.run_dir, settings.resolv_conf)
    )
    try:
        report = await engine.purge()
        assert isinstance(report, Report)
    finally:
        await engine.close()
    return report
