"""One network or sandbox in full, for a person."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import click

from linkspan.cli.tables import print_fields, print_table, render_age, render_port


def print_network(one: Mapping[str, Any]) -> None:
    """A network, its subnets, and who is on it."""
    print_fields(
        [
            ("Name", one["name"]),
            ("Id", one["id"]),
            ("Driver", one["driver"]),
            *([("State", one["state"])] if one["state"] != "up" else []),
            *(("Subnet", describe_subnet(subnet)) for subnet in one["subnets"]),
            ("Interface", f"{one['interface']}, MTU {one['mtu']}" if one["interface"] else "-"),
            ("Internal", "yes, no way out" if one["internal"] else "no"),
            *pairs("Options", one["options"]),
            *pairs("Labels", one["labels"]),
            ("Created", f"{one['created']} ({render_age(one['created'])} ago)"),
            *([] if one["endpoints"] else [("Members", "none")]),
        ]
    )
    if one["endpoints"]:
        click.echo()
        print_table(
            ["MEMBER", "INTERFACE", "IPV4", "IPV6", "MAC"],
            [
                [m["sandbox"], m["interface"], m["ipv4"] or "", m["ipv6"] or "", m["mac"] or ""]
                for m in one["endpoints"]
            ],
        )


def describe_subnet(subnet: Mapping[str, Any]) -> str:
    """A subnet and what is special about it."""
    parts = [subnet["subnet"]]
    parts += [f"gateway {subnet['gateway']}"] if subnet["gateway"] else []
    parts += [f"addresses from {subnet['ip_range']}"] if subnet["ip_range"] else []
    parts += [f"{address} reserved for {name}" for name, address in subnet["reserved"].items()]
    return ", ".join(parts)


def print_sandbox(one: Mapping[str, Any]) -> None:
    """A sandbox, its container, endpoints and ports."""
    print_fields(
        [
            ("Name", one["name"]),
            ("Id", one["id"]),
            ("State", one["state"]),
            ("Namespace", one["netns"] or "the host's"),
            *([("Process", str(one["pid"]))] if one["pid"] else []),
            *([("Hostname", one["hostname"])] if one["hostname"] else []),
            *pairs("Labels", one["labels"]),
            ("Created", f"{one['created']} ({render_age(one['created'])} ago)"),
            *container_fields(one["container"]),
            *(("Port", render_port(port)) for port in one["ports"]),
            *([] if one["endpoints"] else [("Endpoints", "none")]),
        ]
    )
    if one["endpoints"]:
        click.echo()
        print_table(
            ["NETWORK", "INTERFACE", "ADDRESS", "GATEWAY", "MAC", "ON THE HOST"],
            [
                [
                    e["network"],
                    e["interface"],
                    [address for address in (e["ipv4"], e["ipv6"]) if address],
                    [address for address in (e["gateway"], e["gateway_ipv6"]) if address],
                    e["mac"] or "",
                    e["host_interface"],
                ]
                for e in one["endpoints"]
            ],
        )
        for endpoint in one["endpoints"]:
            if endpoint["lease"]:
                click.echo()
                print_fields(lease_fields(endpoint))


def lease_fields(endpoint: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a DHCP server gave an endpoint."""
    lease = endpoint["lease"]
    return [
        ("Lease", f"{lease['address']} on {endpoint['network']} from {lease['server']}"),
        ("Renews", lease["renews"] or "never"),
        ("Expires", lease["expires"] or "never"),
        *([("Router", lease["router"])] if lease["router"] else []),
        *([("DNS", ", ".join(lease["dns"]))] if lease["dns"] else []),
        *([("Domain", lease["domain"])] if lease["domain"] else []),
    ]


def container_fields(container: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What is to say about a container, if there is one."""
    if container is None:
        return []
    return [
        ("Command", shlex.join(container["command"])),
        ("Status", describe_status(container)),
        *([("Last error", container["error"])] if container["error"] else []),
        ("Restart", container["restart"]),
        ("Root", container["rootfs"] or "an overlay of the host's /"),
        *([("User", container["user"])] if container["user"] else []),
        *([("Privileged", "yes")] if container["privileged"] else []),
        ("Log", container["log"]),
    ]


def describe_status(container: Mapping[str, Any]) -> str:
    """`running for 5 min`, `exited (3) 2 h ago`."""
    status = str(container["status"])
    if status == "running" and container["started"]:
        return f"running for {render_age(container['started'])}"
    if status == "restarting":
        return f"restarting, {container['restart_count']} so far"
    if status == "exited":
        code = container["exit_code"]
        text = f"exited ({'unknown' if code is None else code})"
        return f"{text} {render_age(container['finished'])} ago" if container["finished"] else text
    return status


def pairs(heading: str, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """A line for what has keys and values; none if it is empty."""
    text = ", ".join(f"{key}={value}" for key, value in values.items())
    return [(heading, text)] if text else []
