"""`linkspan path --live`: one real packet beside the prediction."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from linkspan.cli.looking import Looking, print_gaps
from linkspan.cli.tables import print_json

if TYPE_CHECKING:
    from linkspan.analysis import Answer, Step
    from linkspan.analysis.comparing import Comparison, Row
    from linkspan.cli.path import Question
    from linkspan.dataplane.sightings import Observation

MOST_WATCHED = 64
"""Namespaces that are watched beside those on the predicted ways."""
_SOURCE_TRANSLATION = re.compile(r"\b(masquerade|snat)\b", re.IGNORECASE)
_STATUS = {True: 0, False: 1, None: 3}
_VERDICTS = {True: "delivered", False: "not-delivered", None: "cannot-say"}


def try_for_real(
    looking: Looking, question: Question, origin: str, target: str, timeout: float,
    verbose: bool, output: str,
) -> int:  # fmt: skip
    """Send the packet of a question, compare, and print. The exit status is what was seen.

    Raises click.UsageError where no packet can be sent, PermissionRefused without root,
    Conflict for a source port that is taken, KernelRefused.
    """
    _check(question, origin)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # so that what was made is taken away first
    answer, seen, comparison = observe_and_compare(question, timeout)
    if output == "json":
        from linkspan.cli.path import as_json

        host = question.host
        gaps = {"unseen": list(host.unseen), "changing": list(host.changing)}
        print_json({**as_json(answer, origin, target), **gaps, "live": live_json(seen, comparison)})
    else:
        from linkspan.cli.livetext import print_comparison

        print_comparison(answer, seen, comparison, origin, target, verbose)
        print_gaps(question.host)
    return _STATUS[comparison.arrived]


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def observe_and_compare(
    question: Question, timeout: float
) -> tuple[Answer, Observation, Comparison]:
    """Predict with the port that the packet will have, send it, and lay both side by side."""
    from msgspec.structs import replace

    from linkspan.analysis.comparing import compare
    from linkspan.kernel.live import open_sender, send_and_watch
    from linkspan.kernel.livesending import Attempt

    flow, paths = question.flow, question.host.paths
    attempt = Attempt(
        version=flow.version, protocol=flow.protocol, destination=flow.destination,
        destination_port=flow.destination_port, source=flow.source,
        port=question.source_port or 0, mark=flow.mark,
    )  # fmt: skip
    with open_sender(paths[question.namespace], question.namespace, attempt) as ready:
        answer = question.answer(ready.sender.port)
        ports, pairs = _find_translations(answer)
        places, left_out = _choose_places(question, answer)
        seen = send_and_watch(ready, places, ports, pairs, _with_old_rules(question), timeout)
    if left_out:
        sentence = f"{left_out} namespaces that are on no predicted way"
        seen = replace(seen, unseen=(*seen.unseen, sentence))
    return answer, seen, compare(question.view, question.namespace, answer, seen)


def check_looking(looking: Looking) -> None:
    """Refuse what is no host to send on. Raises click.UsageError."""
    if not looking.live or looking.plans:
        raise click.UsageError(
            "--live sends a real packet on this host: not with --from-file or --plan"
        )


def _check(question: Question, origin: str) -> None:
    flow = question.flow
    if flow.link is not None:
        raise click.UsageError(
            f"--live cannot send as {origin}: a packet that comes in by {flow.link} can only be "
            "sent from the other end of that link, and a link of our own would change this host. "
            "Without --live the way is computed; or send from a machine there (nc, curl), or "
            "from a namespace of this host: --live host, a container, netns:PATH"
        )
    if flow.protocol == "sctp":
        raise click.UsageError("--live sends tcp, udp and icmp; sctp is only computed")
    if question.namespace not in question.host.paths:
        raise click.UsageError(f"--live needs the namespace of {question.namespace} on this host")


def _choose_places(question: Question, answer: Answer) -> tuple[dict[str, str | None], int]:
    """The namespaces on the predicted ways, and what else cables join to them; and how many of
    the latter are too many to be watched.
    """
    paths: Mapping[str, str | None] = question.host.paths
    near = [question.namespace]
    for trace in answer.traces:
        for leg in trace.legs:
            near += [hop.namespace for hop in leg.hops]
    others = sorted(name for name in question.view.namespaces if name not in near)
    names = dict.fromkeys([*near, *others[:MOST_WATCHED]])
    left_out = max(0, len(others) - MOST_WATCHED)
    return {name: paths[name] for name in names if name in paths}, left_out


def _find_translations(answer: Answer) -> tuple[set[int], set[tuple[str, str, int]]]:
    """What translations make of the sender's port, and source, destination and its port behind
    those that may take another port: by these frames are told.
    """
    ports: set[int] = set()
    pairs: set[tuple[str, str, int]] = set()
    for trace in answer.traces:
        flows = [trace.sent]
        hides = False
        for hop in trace.hops:
            hides = hides or any(_may_take_port(step) for step in hop.steps)
            for rewrite in hop.rewrites:
                flows.append(rewrite.after)
                if rewrite.before.source_port != rewrite.after.source_port:
                    ports.add(rewrite.after.source_port)
        for flow in flows if hides else ():
            port = 0 if "icmp" in flow.protocol else flow.destination_port
            pairs.add((flow.source or "", flow.destination, port))
    return ports, pairs


def _may_take_port(step: Step) -> bool:
    """Whether a rule translates sources: even where the address stays the port may not."""
    return step.kind == "rule" and _SOURCE_TRANSLATION.search(step.detail) is not None


def _with_old_rules(question: Question) -> set[str]:
    """Namespaces with tables of the old iptables: a trace there writes to the kernel's log."""
    from linkspan.dataplane import Table

    return {t.namespace for t in question.view.plane.of(Table) if t.origin == "iptables-legacy"}


# JSON ---------------------------------------------------------------------------------


def live_json(seen: Observation, comparison: Comparison) -> dict[str, Any]:
    """The object `live` as documented in docs/path.md."""
    from msgspec import to_builtins

    first = comparison.first_difference
    return {
        "verdict": _VERDICTS[comparison.arrived],
        "as_predicted": comparison.as_predicted,
        "first_difference": None if first is None else _row_json(first),
        "not_observable": comparison.not_observable,
        "way": comparison.way,
        "outcome": to_builtins(seen.outcome),
        "sent": to_builtins(seen.sent),
        "hops": [_row_json(row) for row in comparison.rows],
        "remarks": list(comparison.remarks),
        "frames": to_builtins(seen.sightings),
        "rules": to_builtins(seen.rulings),
        "connections": to_builtins(seen.tracked),
        "watched": list(seen.watched),
        "traced": list(seen.traced),
        "not_seen": list(seen.unseen),
        "left_over": list(seen.left_over),
    }


def _row_json(row: Row) -> dict[str, Any]:
    from msgspec import to_builtins

    return {**to_builtins(row), "match": row.match.value}
