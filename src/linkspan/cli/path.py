"""`linkspan path`: where a packet goes, hop by hop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from linkspan.cli.liveoption import live_options
from linkspan.cli.looking import Looking, print_gaps, view_options
from linkspan.cli.state import format_option, reads
from linkspan.cli.tables import print_json

if TYPE_CHECKING:
    from linkspan.analysis import Answer, Flow, Trace, View
    from linkspan.analysis.journey import Stranger
    from linkspan.cli.whereabouts import Whereabouts
    from linkspan.inventory.records import HostView

_UNSEEN = "the network namespaces of"
STATUS = {"delivered": 0, "not-delivered": 1, "cannot-say": 3}


@click.command()
@click.argument("origin", metavar="FROM")
@click.argument("target", metavar="TO[:PORT]")
@click.option(
    "--proto",
    type=click.Choice(["tcp", "udp", "sctp", "icmp"]),
    help="Protocol. Default: tcp with a port, icmp (an echo request) without.",
)
@click.option("--source-port", type=click.IntRange(1, 65535), help="Port to send from.")
@click.option("--mark", type=int, default=0, help="Mark of the packet as it is sent.")
@click.option("--link", metavar="NAME", help="From outside: the host's link that it comes in by.")
@click.option("-v", "--verbose", is_flag=True, help="Show every rule that the packet passes.")
@live_options
@view_options
@format_option
@reads
def path(
    origin: str, target: str, proto: str | None, source_port: int | None, mark: int,
    link: str | None, verbose: bool, live: float | None, looking: Looking, output: str,
) -> int:  # fmt: skip
    """Say where a packet goes, hop by hop, and whether its answer comes back.

    FROM and TO are a container, `host`, `outside` (a neighbour on the host's uplink),
    netns:PATH, pid:N or an address. Nothing is sent: the way is computed from what this host
    has now. Needs root, no daemon. With --live one real packet is sent and followed.

    Exit status: 0 delivered and answered, 1 not, 3 it cannot be said, 2 wrong usage.
    From symptom to answer: docs/when-it-does-not-connect.md

    \b
    linkspan path shop db:5432
    linkspan path outside 192.0.2.10:8080
    linkspan path shop 1.1.1.1:443 --proto udp -v
    """
    if live is not None:
        from linkspan.cli.live import check_looking, try_for_real

        check_looking(looking)
    question = find_question(looking, origin, target, proto, source_port, mark, link)
    if live is not None:
        return try_for_real(looking, question, origin, target, live, verbose, output)
    host, answer = question.host, question.answer()
    hidden = find_hidden(host, answer)
    behind = {name for trace in answer.traces for name in question.view.left_behind(trace)}
    if behind:
        whose = " and ".join(sorted(behind))
        hidden.append(f"it leaves for an address of {whose}, and what is out there was not seen")
    if output == "json":
        gaps = {"unseen": list(host.unseen), "changing": list(host.changing)}
        said = {"verdict": "cannot-say", "confidence": "depends"} if hidden else {}
        print_json({**as_json(answer, origin, target), **said, **gaps})
    else:
        from linkspan.cli.pathtext import print_answer

        print_answer(answer, question.view, origin, target, verbose, bool(hidden))
        if hidden:
            click.echo(f"BUT IT CANNOT BE SAID: {'; '.join(hidden)}")
        print_gaps(host)
    return STATUS["cannot-say" if hidden else answer.verdict.value]


def find_hidden(host: HostView, answer: Answer) -> list[str]:
    """What was not seen of the host and may decide this answer.

    That is what could not be read, or was changing, of a namespace that the packet passes; and
    for one that leaves, namespaces that only root may see: one may be where it went.
    """
    legs = [leg for trace in answer.traces for leg in trace.legs]
    passed = {hop.namespace for leg in legs for hop in leg.hops}
    left = any(leg.disposition.value == "left" for leg in legs)
    found = [f"{name} changed while it was read" for name in host.changing if name in passed]
    for sentence in host.unseen:
        words = {word.rstrip(":,;.") for word in sentence.split()}
        of_passed = bool(words & passed) and "could not be read" in sentence
        if of_passed or (left and sentence.startswith(_UNSEEN) and "run as root" in sentence):
            found.append(sentence)
    return found


class Question(NamedTuple):
    """A flow on a host that was looked at. `source_port` is None where none was asked for."""

    host: HostView
    view: View
    namespace: str
    flow: Flow
    stranger: Stranger | None
    source_port: int | None

    def answer(self, source_port: int | None = None) -> Answer:
        """Walk the flow; with another source port than that of the question, if given."""
        from msgspec.structs import replace

        from linkspan.analysis import trace_flow

        flow = self.flow if source_port is None else replace(self.flow, source_port=source_port)
        return trace_flow(self.view, self.namespace, flow, self.stranger)


def find_question(
    looking: Looking, origin: str, target: str, proto: str | None = None,
    source_port: int | None = None, mark: int = 0, link: str | None = None,
) -> Question:  # fmt: skip
    """Look at the host and say which flow is meant.

    Raises:
        NotFound: a name that is not there.
        InvalidRequest: what was written is no end of a flow.
        click.UsageError: FROM, TO and the options do not fit together.
    """
    from linkspan.analysis import Flow, View, stranger_at
    from linkspan.analysis.flow import EPHEMERAL
    from linkspan.cli.whereabouts import (
        OUTSIDE,
        find_origin,
        find_target,
        parse,
        resolve,
        uplink_of,
    )
    from linkspan.dataplane import HOST

    start, end = parse(origin), parse(target)
    if start.name == end.name == OUTSIDE:
        raise click.UsageError("what goes from outside to outside does not come by this host")
    proto = proto or ("icmp" if end.port is None else "tcp")
    if (proto == "icmp") != (end.port is None):
        needs = "takes no port" if proto == "icmp" else f"needs a port: {target}:80"
        raise click.UsageError(f"{proto} {needs}")
    if start.port is not None:
        source_port = start.port
    host = looking.around((start, end))
    start, end = (resolve(one, host.containers, host.unseen) for one in (start, end))
    view = View(host.plane, sockets_known=True)
    first = find_origin(view, start, _version(end), link) if _is_plain(start) else None
    destination = find_target(view, end, None if first is None else first.namespace)
    if first is None or (first.source and (":" in first.source) != (":" in destination)):
        first = find_origin(view, start, 6 if ":" in destination else 4, link)
    flow = Flow(
        source=first.source,
        source_port=EPHEMERAL if source_port is None else source_port,
        destination=destination,
        destination_port=end.port or 0,
        protocol=proto,
        mark=mark,
        link=first.link,
    )
    if flow.source is not None and (":" in flow.source) != (":" in flow.destination):
        raise click.UsageError(f"{flow.source} and {flow.destination} are of two IP versions")
    stranger = None
    if end.name == OUTSIDE and flow.link is None:
        stranger = stranger_at(HOST, uplink_of(view), destination)
    return Question(host, view, first.namespace, flow, stranger, source_port)


def _version(end: Whereabouts) -> int:
    return 6 if end.address is not None and ":" in end.address else 4


def _is_plain(start: Whereabouts) -> bool:
    return start.name != "outside"


# JSON ---------------------------------------------------------------------------------


def as_json(answer: Answer, origin: str, target: str) -> dict[str, Any]:
    """The answer as documented in docs/path.md."""
    return {
        "from": origin,
        "to": target,
        "verdict": answer.verdict.value,
        "confidence": answer.confidence.value,
        "complete": answer.complete,
        **trace_json(answer.first),
        "others": [trace_json(trace) for trace in answer.traces[1:]],
    }


def trace_json(trace: Trace) -> dict[str, Any]:
    """One way of a packet."""
    from msgspec import to_builtins

    return {
        "disposition": trace.disposition.value,
        "reason": trace.reason,
        "namespace": trace.namespace,
        "processes": [{"pid": one.pid, "name": one.name} for one in trace.processes],
        "flow": {"sent": to_builtins(trace.sent), "arrived": to_builtins(trace.arrived)},
        "hops": [{**to_builtins(hop), "line": hop.line} for hop in trace.hops],
        "depends_on": list(trace.assumed),
        "not_understood": list(trace.not_understood),
        "reply": None if trace.reply is None else trace_json(trace.reply),
        "follow_up": None if trace.follow_up is None else trace_json(trace.follow_up),
        "onward": None
        if trace.onward is None
        else as_json(trace.onward, trace.namespace, trace.onward.flow.destination),
    }
