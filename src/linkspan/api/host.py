"""Operations on the host as a whole: doctor, reconcile, purge, info, health, and the API itself."""

from __future__ import annotations

import asyncio
import functools
from datetime import datetime
from typing import Any

import msgspec

from linkspan.api.doctor import DoctorView, check_names, examine_host
from linkspan.api.obstacles import OUR_BRIDGES, is_ours
from linkspan.api.openapi import compose_document
from linkspan.api.operation import DRY_RUN, Answer, Call, Operation
from linkspan.api.plans import PlanView, answer_or_plan
from linkspan.api.reports import ReportView, show_report
from linkspan.api.views import show_time
from linkspan.engine.reconcile import Report
from linkspan.engine.settings import Settings


class InfoView(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon: its version and process, its network namespace (inode), its paths, its contents."""

    version: str
    pid: int
    namespace: int
    socket: str
    state_dir: str
    run_dir: str
    default_network: str
    started: datetime
    networks: int
    sandboxes: int


class RecordsView(msgspec.Struct, frozen=True):
    """What a plan begins with: settings, and the store's entries by key, as they are kept there.

    Networks, sandboxes, leases and policies; nothing of what containers run.
    """

    settings: Settings
    entries: dict[str, str]


class HealthView(msgspec.Struct, frozen=True):
    """That it answers."""

    status: str = "ok"


async def examine(call: Call) -> Answer:
    """What this kernel and host offer and lack, seen from the daemon's namespace."""
    names = [network.interface for network in call.engine.networks()]
    unusual = [name for name in names if name and not is_ours(name, OUR_BRIDGES)]
    found = await asyncio.to_thread(examine_host, unusual)
    about_names = check_names(call.engine.unanswered())
    return Answer(200, msgspec.structs.replace(found, checks=[*found.checks, *about_names]))


async def reconcile(call: Call) -> Answer:
    """Make the host what the store says."""
    return Answer(200, show_report(await call.engine.reconcile()))


async def purge(call: Call) -> Answer:
    """Take everything of ours off the host; the daemon ends when it has answered."""
    done = await call.engine.purge(dry_run=call.dry_run)

    def show(report: Report) -> Answer:
        call.service.purged = not report.failed
        return Answer(200, show_report(report), afterwards=call.service.closing.set)

    return answer_or_plan(done, show)


async def inform(call: Call) -> Answer:
    """The daemon's version, process, namespace and paths."""
    facts: dict[str, Any] = dict(call.service.facts)
    facts["started"] = show_time(facts["started"])
    facts["networks"] = len(call.engine.networks())
    facts["sandboxes"] = len(call.engine.sandboxes())
    return Answer(200, InfoView(**facts))


async def show_records(call: Call) -> Answer:
    """What a plan of commands begins with."""
    entries = await call.engine.records()
    texts = {key: value.decode() for key, value in entries.items()}
    return Answer(200, RecordsView(call.engine.settings, texts))


async def answer_health(call: Call) -> Answer:
    """That the daemon answers."""
    return Answer(200, HealthView())


async def show_document(call: Call) -> Answer:
    """The OpenAPI document."""
    return Answer(200, encoded_document())


@functools.cache
def encoded_document() -> bytes:
    """The OpenAPI document as JSON, made once."""
    # Late: the application is made of this module's operations among others.
    from linkspan.api.application import OPERATIONS as EVERYTHING

    return msgspec.json.encode(compose_document(EVERYTHING))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/doctor",
        name="examineHost",
        summary="What this kernel and host offer and lack, and what another firewall would stop",
        handler=examine,
        answers={200: DoctorView},
    ),
    Operation(
        method="POST",
        path="/v1/reconcile",
        name="reconcile",
        summary="Make the host what the store says it should be, now",
        handler=reconcile,
        answers={200: ReportView},
    ),
    Operation(
        method="POST",
        path="/v1/purge",
        name="purge",
        summary="Take away everything of linkspan's from this host; the daemon ends",
        handler=purge,
        answers={200: (ReportView, PlanView)},
        query=(DRY_RUN,),
    ),
    Operation(
        method="GET",
        path="/v1/info",
        name="inform",
        summary="Version, process, namespace and paths of the daemon",
        handler=inform,
        answers={200: InfoView},
    ),
    Operation(
        method="GET",
        path="/v1/records",
        name="showRecords",
        summary="Settings and records that a plan of commands begins with",
        handler=show_records,
        answers={200: RecordsView},
    ),
    Operation(
        method="GET",
        path="/v1/health",
        name="answerHealth",
        summary="Whether the daemon answers",
        handler=answer_health,
        answers={200: HealthView},
    ),
    Operation(
        method="GET",
        path="/v1/openapi.json",
        name="showDocument",
        summary="This document",
        handler=show_document,
        answers={200: dict[str, Any]},
    ),
)
