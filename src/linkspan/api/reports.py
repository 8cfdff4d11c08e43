"""What a reconciliation or a purge did, as shown."""

from __future__ import annotations

from typing import Any

import msgspec


class ReportView(msgspec.Struct, frozen=True):
    """What was done, a line each, in order; empty when there was nothing to do."""

    done: list[str]


def show_report(report: Any) -> ReportView:
    """A report as shown."""
    return ReportView(list(report.lines()))
