"""`linkspan network`: create, ls, inspect, rm, prune, connect, disconnect."""

from __future__ import annotations

from typing import Any

import click

from linkspan.cli.attachments import place_address, read_pairs
from linkspan.cli.details import print_network
from linkspan.cli.names import complete, names_argument
from linkspan.cli.several import print_each, work_through
from linkspan.cli.state import changes, connect, format_option, quiet_option, reads
from linkspan.cli.tables import is_plan, print_json, print_plan, print_table, shorten

HAVE_SUBNETS = ("macvlan", "ipvlan")
"""Drivers whose networks have a subnet before they are made: the segment's."""


@click.group()
def network() -> None:
    """Create, list, show and remove networks.

    \b
    linkspan network create web --subnet 10.20.0.0/24
    linkspan network ls
    """


@network.command()
@click.argument("name")
@click.option(
    "-d",
    "--driver",
    default="bridge",
    show_default=True,
    help="How it is made: bridge, macvlan, ipvlan, null, host.",
)
@click.option(
    "--subnet",
    "subnets",
    multiple=True,
    metavar="CIDR",
    help="Subnet, IPv4 or IPv6. Default: a free one from the pools.",
)
@click.option(
    "--gateway",
    "gateways",
    multiple=True,
    metavar="ADDRESS",
    help="Gateway. Default: the first address.",
)
@click.option(
    "--ip-range",
    "ip_ranges",
    multiple=True,
    metavar="CIDR",
    help="Part of the subnet that addresses are given from.",
)
@click.option(
    "--reserve",
    "--aux-address",
    "reserved",
    multiple=True,
    metavar="NAME=ADDRESS",
    help="Address that is never given, and why.",
)
@click.option(
    "-o", "--opt", "options", multiple=True, metavar="KEY=VALUE", help="Option of the driver."
)
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label it.")
@click.option(
    "--ipam",
    type=click.Choice(["default", "dhcp"]),
    default="default",
    show_default=True,
    help="Who gives IPv4 addresses: linkspan, or the DHCP server of the parent's segment.",
)
@click.option("--internal", is_flag=True, help="Without a way out of the network.")
@click.option(
    "--ipv4/--no-ipv4",
    default=None,
    help="With IPv4. Default: yes, unless only IPv6 subnets are stated.",
)
@click.option(
    "--ipv6/--no-ipv6",
    default=None,
    help="With IPv6; a subnet of unique local addresses is chosen unless one is stated.",
)
@format_option
@changes
def create(
    name: str,
    driver: str,
    subnets: tuple[str, ...],
    gateways: tuple[str, ...],
    ip_ranges: tuple[str, ...],
    reserved: tuple[str, ...],
    options: tuple[str, ...],
    labels: tuple[str, ...],
    ipam: str,
    internal: bool,
    ipv4: bool | None,
    ipv6: bool | None,
    output: str,
    dry_run: bool,
) -> None:
    """Create a network and show its id.

    \b
    linkspan network create web --subnet 10.20.0.0/24
    linkspan network create shop --ipv6
    linkspan network create dual --subnet 10.21.0.0/24 --subnet fd00:21::/64
    linkspan network create back --internal -o icc=false
    linkspan network create lan -d macvlan -o parent=eth1 --ip-range 192.168.7.64/26
    linkspan network create office -d macvlan -o parent=eth1 --ipam dhcp
    """
    wishes: list[dict[str, Any]] = []
    if ipam == "dhcp" and not subnets:
        wishes, gateways = [{"gateway": gateway} for gateway in gateways], ()
    kept = read_pairs("--reserve", reserved)
    implied = driver in HAVE_SUBNETS and ipam != "dhcp"
    wishes += read_subnets(subnets, gateways, ip_ranges, kept, implied=implied)
    body = {
        "name": name,
        "driver": driver,
        "subnets": wishes,
        "ipam": ipam,
        "options": read_pairs("--opt", options),
        "labels": read_pairs("--label", labels),
        "internal": internal,
        **{k: v for k, v in (("ipv4", ipv4), ("ipv6", ipv6)) if v is not None},
    }
    made = connect().post("networks", body=body, dry_run=dry_run)
    if is_plan(made):
        print_plan(made, output)
    elif output == "json":
        print_json(made)
    else:
        click.echo(made["id"])


def read_subnets(
    subnets: tuple[str, ...],
    gateways: tuple[str, ...],
    ip_ranges: tuple[str, ...],
    reserved: dict[str, str],
    *,
    implied: bool = False,
) -> list[dict[str, Any]]:
    """Each subnet with the gateway, range and reserved addresses that lie in it.

    `implied`: without a subnet the parent's is meant.

    Raises:
        click.BadParameter: a value is no address, or lies in none of the subnets.
    """
    read: list[dict[str, Any]] = [{"subnet": subnet} for subnet in subnets]
    if implied and not read and (gateways or ip_ranges or reserved):
        read.append({})
    if not read and (gateways or ip_ranges or reserved):
        raise click.UsageError("--gateway, --ip-range and --reserve need --subnet")
    for option, key, values in (
        ("--gateway", "gateway", gateways),
        ("--ip-range", "ip_range", ip_ranges),
    ):
        for value in values:
            home = find_subnet(option, value, read)
            if key in home:
                name = home.get("subnet", "the parent's subnet")
                raise click.BadParameter(f"{name} has two", param_hint=option)
            home[key] = value
    for name, address in reserved.items():
        find_subnet("--reserve", address, read).setdefault("reserved", {})[name] = address
    return read


def find_subnet(option: str, value: str, subnets: list[dict[str, Any]]) -> dict[str, Any]:
    """The subnet that an address or range lies in; the only one even if it does not."""
    import ipaddress

    if len(subnets) == 1:
        return subnets[0]  # the daemon says what is wrong, if anything is
    try:
        wanted = ipaddress.ip_network(value)
        for candidate in subnets:
            outer = ipaddress.ip_network(candidate["subnet"])
            if outer.version == wanted.version and wanted.subnet_of(outer):  # type: ignore[arg-type]
                return candidate
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
    raise click.BadParameter(f"{value} lies in none of the subnets", param_hint=option)


@network.command("ls")
@quiet_option
@format_option
@reads
def list_networks(quiet: bool, output: str) -> None:
    """List the networks.

    \b
    linkspan network ls
    linkspan network ls --format json
    """
    found = connect().get("networks")
    if quiet:
        print_each(found, output)
    elif output == "json":
        print_json(found)
    else:
        print_table(
            ["ID", "NAME", "DRIVER", "SUBNETS", "INTERFACE", "MEMBERS", "WAY OUT"],
            [
                [
                    shorten(one["id"]),
                    one["name"],
                    one["driver"],
                    [subnet["subnet"] for subnet in one["subnets"]],
                    one["interface"],
                    str(len(one["endpoints"])),
                    "no" if one["internal"] or one["driver"] == "null" else "yes",
                ]
                for one in found
            ],
        )


@network.command()
@names_argument("networks")
@format_option
@reads
def inspect(names: tuple[str, ...], output: str) -> None:
    """Show networks in full. As JSON, one is an object, several are an array.

    \b
    linkspan network inspect web
    """
    client = connect()
    found = [client.get("networks", name) for name in names]
    if output == "json":
        print_json(found[0] if len(found) == 1 else found)
        return
    for index, one in enumerate(found):
        if index:
            click.echo()
        print_network(one)


@network.command()
@names_argument("networks")
@changes
def rm(names: tuple[str, ...], dry_run: bool) -> None:
    """Remove networks that nobody is on.

    \b
    linkspan network rm web
    """
    client = connect()
    work_through(names, lambda name: client.delete("networks", name, dry_run=dry_run))


@network.command()
@format_option
@changes
def prune(output: str, dry_run: bool) -> None:
    """Remove every network that nobody is on. The default ones stay.

    \b
    linkspan network prune
    """
    removed = connect().post("networks", "prune", dry_run=dry_run)
    if is_plan(removed):
        print_plan(removed, output)
    elif output == "json":
        print_json(removed)
    else:
        for one in removed:
            click.echo(one["name"])


@network.command("connect")
@click.argument("name", metavar="NETWORK", shell_complete=complete("networks"))
@click.argument("sandbox", shell_complete=complete("sandboxes"))
@click.option("--ip", metavar="ADDRESS", help="Address in the network, IPv4 or IPv6.")
@click.option("--ip6", metavar="ADDRESS", help="IPv6 address in the network.")
@click.option("--mac", metavar="MAC", help="MAC address in the network.")
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="One more name there.")
@click.option(
    "--gw-priority",
    "--gateway-priority",
    "gateway_priority",
    type=int,
    default=0,
    metavar="N",
    help="The network with the highest one carries the default route and the published ports.",
)
@format_option
@changes
def connect_sandbox(
    name: str,
    sandbox: str,
    ip: str | None,
    ip6: str | None,
    mac: str | None,
    aliases: tuple[str, ...],
    gateway_priority: int,
    output: str,
    dry_run: bool,
) -> None:
    """Put a sandbox or container on one more network, while it runs.

    Its connections on other networks are not touched. One in `none` leaves it by this.

    \b
    linkspan network connect back shop --ip 10.21.0.9 --alias orders
    """
    body: dict[str, Any] = {
        "network": name,
        "mac": mac,
        "aliases": list(aliases),
        "gateway_priority": gateway_priority,
        **(place_address(ip) if ip else {}),
        **({"ipv6": ip6} if ip6 else {}),
    }
    show_done(connect().post("sandboxes", sandbox, "networks", body=body, dry_run=dry_run), output)


@network.command("disconnect")
@click.argument("name", metavar="NETWORK", shell_complete=complete("networks"))
@click.argument("sandbox", shell_complete=complete("sandboxes"))
@click.option("-f", "--force", is_flag=True, help="Also where the kernel refuses to.")
@format_option
@changes
def disconnect_sandbox(name: str, sandbox: str, force: bool, output: str, dry_run: bool) -> None:
    """Take a sandbox or container off a network, while it runs.

    Where that carried the default route, the next network does, and published ports lead there.

    \b
    linkspan network disconnect back shop
    """
    answer = connect().delete("sandboxes", sandbox, "networks", name, force=force, dry_run=dry_run)
    show_done(answer, output)


def show_done(answer: dict[str, Any], output: str) -> None:
    """A plan, or the sandbox as it is now when JSON is wanted, or nothing."""
    if is_plan(answer):
        print_plan(answer, output)
    elif output == "json":
        print_json(answer)
