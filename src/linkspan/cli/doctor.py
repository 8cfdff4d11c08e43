"""`linkspan doctor`: what this kernel and host offer and lack."""

from __future__ import annotations

from typing import Any

import click

from linkspan.cli.state import current_state, format_option, reads
from linkspan.cli.tables import clean, print_json
from linkspan.errors import DaemonUnreachable

SIGNS = {"ok": "ok", "missing": "--", "warning": "!!", "blocked": "XX", "unknown": "??"}
LONGEST_NAME = 40
"""A longer one has a line to itself."""
COLOURS = {"ok": "green", "missing": "yellow", "warning": "yellow", "blocked": "red"}
AREAS = {
    "rights": "Rights",
    "kernel": "Kernel",
    "host": "Host",
    "programs": "Programs",
    "firewall": "Other firewalls",
    "daemon": "Daemon",
}


@click.command()
@format_option
@reads
def doctor(output: str) -> None:
    """Show what this kernel and host offer and lack.

    Also what another firewall would stop, by which rule, and how to let it pass. Asks the
    daemon, which sees its own network namespace; without one it looks for itself. Nothing is
    changed.

    ok: here. --: a mode cannot be used. !!: read on. XX: another program's rule stops our
    packets. ??: could not be found out.

    \b
    linkspan doctor
    """
    found = examine()
    if output == "json":
        print_json(found)
        return
    print_checks(found["checks"])
    click.echo()
    click.echo(summarise(found))


def examine() -> dict[str, Any]:
    """The daemon's view, or our own where none answers."""
    state = current_state()
    try:
        found = dict(state.client().get("doctor"))
        version = state.client().get("info")["version"]
        check = make_check("ok", f"version {version} answers on {state.socket_path}")
    except DaemonUnreachable as error:
        import msgspec

        from linkspan.api.doctor import examine_host

        found = dict(msgspec.to_builtins(examine_host()))
        check = make_check("warning", error.message)
        check["needed_by"] = []
    found["checks"].append(check)
    return found


def make_check(state: str, text: str) -> dict[str, Any]:
    """The line about the daemon itself, which only a client can write."""
    return {
        "area": "daemon",
        "name": "daemon",
        "state": state,
        "found": text,
        "needed_by": ["everything but doctor and purge"],
        "advice": "",
        "commands": [],
    }


def print_checks(checks: list[dict[str, Any]]) -> None:
    """The checks by area, with advice below those that need some."""
    width = max(len(check["name"]) for check in checks if len(check["name"]) <= LONGEST_NAME)
    for area, heading in AREAS.items():
        here = [check for check in checks if check["area"] == area]
        if not here:
            continue
        click.echo(click.style(heading, bold=True))
        for check in here:
            sign = click.style(SIGNS[check["state"]], fg=COLOURS.get(check["state"]))
            needed = f" (for {', '.join(check['needed_by'])})" if needs_note(check) else ""
            found = f"{clean(check['found'])}{needed}"
            margin = " " * 6
            if len(check["name"]) <= LONGEST_NAME:
                click.echo(f"  {sign}  {check['name']:<{width}}  {found}")
                margin += " " * (width + 2)
            else:
                click.echo(f"  {sign}  {clean(check['name'])}\n{margin}{found}")
            if check["advice"]:
                click.echo(f"{margin}{clean(check['advice'])}")
            for command in check["commands"]:
                click.echo(f"{margin}  {clean(command)}")


def needs_note(check: dict[str, Any]) -> bool:
    """Whether to say what depends on it: where it is not simply here."""
    return check["state"] != "ok" and bool(check["needed_by"])


def summarise(found: dict[str, Any]) -> str:
    """The last line: what it all means."""
    if not found["usable"]:
        return "The modes null, host and bridge cannot all work here: see above."
    blocked = sum(check["state"] == "blocked" for check in found["checks"])
    if blocked:
        rules = "a rule" if blocked == 1 else f"{blocked} rules"
        verb = "stops" if blocked == 1 else "stop"
        return (
            f"The modes null, host and bridge work here, but {rules} of other firewalls {verb} "
            "packets: see above."
        )
    return "The modes null, host and bridge work here."
