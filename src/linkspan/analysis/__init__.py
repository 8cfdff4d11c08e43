"""Reasoning about a data plane: where a packet goes, and what becomes of it.

Pure: a DataPlane in, answers out. `View` indexes a plane, `trace_flow` walks a flow.
"""

from linkspan.analysis.flow import Flow
from linkspan.analysis.trace import (
    Answer,
    Confidence,
    Disposition,
    Hop,
    Rewrite,
    Step,
    Trace,
    Verdict,
)
from linkspan.analysis.view import View
from linkspan.analysis.walk import stranger_at, trace_flow

__all__ = [
    "Answer", "Confidence", "Disposition", "Flow", "Hop", "Rewrite", "Step", "Trace", "Verdict",
    "View", "stranger_at", "trace_flow",
]  # fmt: skip
