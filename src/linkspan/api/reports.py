"""What a reconciliation or a purge did, as shown."""

from __future__ import annotations

import msgspec

from linkspan.engine.reconcile import Report


class ReportView(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, a line each; all empty when there was nothing to do.

    `gone` names sandboxes whose namespace has vanished, `failed` says what could not be put
    right, and why.
    """

    added: list[str]
    repaired: list[str]
    removed: list[str]
    gone: list[str]
    failed: list[str]


def show_report(report: Report) -> ReportView:
    """A report as shown."""
    return ReportView(
        added=list(report.added),
        repaired=list(report.repaired),
        removed=list(report.removed),
        gone=list(report.gone),
        failed=list(report.failed),
    )
