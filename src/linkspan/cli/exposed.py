"""`linkspan exposed`: what a stranger on the host's segments reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from linkspan.cli.inhabitants import name_namespaces
from linkspan.cli.looking import CANNOT_SAY, Looking, is_blind, print_gaps, view_options
from linkspan.cli.state import format_option, reads
from linkspan.cli.tables import print_json

if TYPE_CHECKING:
    from linkspan.analysis.exposed import Exposed
    from linkspan.analysis.exposures import Exposure, Passage, Unclear
    from linkspan.inventory.records import HostView

PROTOCOLS = ("tcp", "udp", "sctp")


@click.command()
@click.option("--link", metavar="NAME", help="Only strangers on the segment of this link.")
@click.option("--proto", type=click.Choice(PROTOCOLS), help="Only this protocol.")
@click.option("-v", "--verbose", is_flag=True, help="Show the rules that let each in.")
@view_options
@format_option
@reads
def exposed(
    link: str | None, proto: str | None, verbose: bool, looking: Looking, output: str
) -> int:
    """Show every address, port and protocol that a stranger reaches, and who opened it.

    A stranger is on the segment of one of the host's links to the outside. He may send to any
    address by the host's MAC, straight to a container's too, and from any address. Nothing is
    sent: the answer is computed for all packets at once. Needs root or --from-file, no daemon.

    Exit status: 0 shown, also when nothing is exposed; 3 it cannot be said, 2 wrong usage.

    \b
    linkspan exposed
    linkspan exposed --proto udp -v
    linkspan exposed --from-file before.lks --format json
    """
    host = looking.whole()
    found = find(host, link, proto)
    if output == "json":
        print_json(as_json(found, host))
    else:
        from linkspan.cli.exposedtext import print_exposed

        print_exposed(found, host, verbose)
    print_gaps(host)
    return 0 if found.complete and not is_blind(host) else CANNOT_SAY


def find(host: HostView, link: str | None, proto: str | None) -> Exposed:
    """What strangers reach on a host. Raises NotFound for a link that it does not have."""
    from linkspan.analysis import View
    from linkspan.analysis.exposed import find_exposed

    view = View(host.plane, sockets_known=True)
    return find_exposed(view, link, PROTOCOLS if proto is None else (proto,))


# JSON ---------------------------------------------------------------------------------


def as_json(found: Exposed, host: HostView) -> dict[str, Any]:
    """The answer as documented in docs/exposed.md."""
    names = name_namespaces(host)
    return {
        "segments": list(found.segments),
        "exposed": [_exposure_json(one, names) for one in found.exposures],
        "forwarded": [_outline_json(one) for one in found.forwarded],
        "unclear": [_outline_json(one) for one in found.unclear],
        "complete": found.complete,
        "left_out": list(found.rest),
        "unseen": list(host.unseen),
        "changing": list(host.changing),
    }


def _exposure_json(one: Exposure, names: dict[str, str]) -> dict[str, Any]:
    from msgspec import to_builtins

    return {
        "segment": one.segment,
        "addresses": list(one.addresses),
        "ports": [list(span) for span in one.ports],
        "protocol": one.protocol,
        "ip": one.version,
        "from": to_builtins(one.sources),
        "from_pretended": to_builtins(one.pretended),
        "source_ports": [list(span) for span in one.source_ports],
        "frames_to": one.towards,
        "answers": {
            "namespace": one.namespace,
            "name": names.get(one.namespace, one.namespace),
            "address": one.own_address or None,
            "ports": [list(span) for span in one.own_ports],
            "processes": [{"pid": p.pid, "name": p.name} for p in one.processes],
            "relays_to": one.relays_to or None,
        },
        "answered": one.answered,
        "answered_from": to_builtins(one.answered_sources),
        "opened_by": one.opened_by,
        "opened_how": one.opened_how,
        "rules": [to_builtins(rule) for rule in one.rules],
        "confidence": one.confidence.value,
        "depends_on": list(one.depends_on),
        "not_understood": list(one.not_understood),
    }


def _outline_json(one: Passage | Unclear) -> dict[str, Any]:
    from msgspec import to_builtins

    return {
        "segment": one.segment,
        "addresses": list(one.addresses),
        "ports": [list(span) for span in one.ports],
        "protocol": one.protocol,
        "ip": one.version,
        "from": to_builtins(one.sources),
        "reason": one.reason,
    }
