"""`linkspan reach`: who reaches whom, port by port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from linkspan.cli.inhabitants import name_namespaces
from linkspan.cli.looking import CANNOT_SAY, Looking, is_blind, print_gaps, view_options
from linkspan.cli.state import format_option, reads
from linkspan.cli.tables import print_json

if TYPE_CHECKING:
    from linkspan.analysis.reach import Finding, Group, Reach
    from linkspan.inventory.records import HostView


class Names(NamedTuple):
    """What the namespaces of the matrix are called."""

    shown: dict[str, str]

    def of(self, namespace: str) -> str:
        """The name for people."""
        return self.shown.get(namespace, namespace)


@click.command()
@click.argument("origin", metavar="[FROM]", required=False)
@click.argument("target", metavar="[TO[:PORT]]", required=False)
@click.option("--proto", type=click.Choice(["tcp", "udp", "sctp"]), help="Only this protocol.")
@click.option(
    "--port", "ports", type=click.IntRange(1, 65535), multiple=True,
    help="Ask for this port, whether somebody listens there or not. May be repeated.",
)  # fmt: skip
@click.option("--ip", type=click.Choice(["4", "6"]), help="Only this version of IP.")
@click.option("--only", type=click.Choice(["reachable", "blocked"]), help="Show only what is so.")
@click.option("-v", "--verbose", is_flag=True, help="Show each address, and why.")
@view_options
@format_option
@reads
def reach(
    origin: str | None, target: str | None, proto: str | None, ports: tuple[int, ...],
    ip: str | None, only: str | None, verbose: bool, looking: Looking, output: str,
) -> int:  # fmt: skip
    """Show who reaches whom: containers, the host, outside, internet, port by port.

    Without arguments the whole matrix. FROM and TO are a container, `host`, `outside` (a
    neighbour on the host's uplink) or `internet` (beyond the default gateway). Every port on
    which a target listens is asked, and published ports from the host, outside and internet.
    Nothing is sent. Containers that are alike are shown together. Needs root or --from-file,
    no daemon.

    Exit status: 0 shown, 3 the host or file could not be read, or not in full, 2 wrong usage.

    \b
    linkspan reach
    linkspan reach shop db -v
    linkspan reach outside --only reachable
    linkspan reach --port 5432 --format json
    """
    host = looking.whole()
    names, found = find_matrix(host, origin, target, proto, ports)
    found = choose(found, ip, only)
    status = CANNOT_SAY if is_blind(host) else 0
    if output == "json":
        print_json(as_json(found, names, host))
        return status
    from linkspan.cli.reachtext import print_details, print_matrix

    if verbose or (origin is not None and target is not None):
        print_details(found, names, target is not None and origin is not None)
    else:
        print_matrix(found, names, only)
    print_gaps(host)
    return status


def find_matrix(
    host: HostView, origin: str | None, target: str | None, proto: str | None,
    ports: tuple[int, ...],
) -> tuple[Names, Reach]:  # fmt: skip
    """The matrix of a host, or its part from or to some end.

    Raises NotFound and InvalidRequest for words that name no end.
    """
    from linkspan.analysis import View
    from linkspan.analysis.reach import PROTOCOLS, find_reach

    view = View(host.plane, sockets_known=True)
    start, _ = _find_end(host, origin)
    end, port = _find_end(host, target)
    wanted = (*ports, *(() if port is None else (port,)))
    return Names(name_namespaces(host)), find_reach(
        view,
        containers=_containers(host, view.namespaces),
        origins=None if start is None else [start],
        targets=None if end is None else [end],
        protocols=PROTOCOLS if proto is None else (proto,),
        ports=wanted or None,
    )


def _containers(host: HostView, namespaces: Any) -> list[str]:
    """The namespaces of the matrix: all that are somebody's, but the host's own."""
    from linkspan.dataplane import HOST

    known = {one.namespace for one in host.containers} or set(namespaces)
    return [name for name in namespaces if name != HOST and name in known]


def _find_end(host: HostView, word: str | None) -> tuple[str | None, int | None]:
    from linkspan.analysis.reach import INTERNET, OUTSIDE
    from linkspan.cli.whereabouts import parse, resolve
    from linkspan.dataplane import HOST
    from linkspan.errors import InvalidRequest

    if word is None:
        return None, None
    where = parse(word)
    if where.address is not None:
        raise InvalidRequest(
            f"{word}: ends of the matrix are names; for an address ask `linkspan path`"
        )
    if where.name in (INTERNET, OUTSIDE, HOST):
        return where.name, where.port
    return resolve(where, host.containers, host.unseen).name, where.port


def choose(found: Reach, ip: str | None, only: str | None) -> Reach:
    """The findings of one version of IP, or with one outcome."""
    from msgspec.structs import replace

    kept = tuple(
        one
        for one in found.findings
        if (ip is None or (":" in one.address) == (ip == "6"))
        and (only is None or one.verdict.value == only)
    )
    return replace(found, findings=kept)


# JSON ---------------------------------------------------------------------------------


def as_json(found: Reach, names: Names, host: HostView) -> dict[str, Any]:
    """The matrix as documented in docs/reach.md."""
    groups = {group.name: group for group in (*found.origins, *found.targets)}
    return {
        "outside": {"link": found.uplink, "addresses": list(found.beside.values())},
        "internet": {"addresses": list(found.beyond.values())},
        "kinds": [_group_json(group, names) for group in groups.values()],
        "pairs": [_finding_json(one, names) for one in found.findings],
        "unseen": list(host.unseen),
        "changing": list(host.changing),
    }


def _group_json(group: Group, names: Names) -> dict[str, Any]:
    return {
        "kind": group.name,
        "members": [
            {
                "namespace": member,
                "name": names.of(member),
                "addresses": list(group.addresses[place]) if group.addresses else [],
                "published": list(group.published[place]) if group.published else [],
                "network": group.network(place) or None,
                "gateways": list(group.gateways[place]) if group.gateways else [],
            }
            for place, member in enumerate(group.members)
        ],
    }


def _finding_json(one: Finding, names: Names) -> dict[str, Any]:
    return {
        "from": one.origin,
        "to": one.target,
        "itself": one.same,
        "on_one_network": one.near,
        "asked": {"from": names.of(one.asked[0]), "to": names.of(one.asked[1])},
        "address": one.address,
        "address_of_member": one.address_number,
        "gateway_of_member": one.gateway_number,
        "protocol": one.protocol,
        "ports": [list(span) for span in one.ports],
        "published_of_member": one.published_number,
        "verdict": one.verdict.value,
        "how": one.how,
        "disposition": one.disposition.value,
        "why": one.why,
        "rule": one.rule,
        "source": one.source,
        "lands": one.lands,
        "depends_on": list(one.depends_on),
        "not_understood": list(one.not_understood),
    }
