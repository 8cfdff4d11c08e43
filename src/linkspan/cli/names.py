"""Arguments that name networks and sandboxes, which a shell can complete by asking the daemon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from linkspan.cli.client import Client
from linkspan.cli.state import State
from linkspan.errors import LinkspanError

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def complete(*kinds: str) -> Completer:
    """Completes names of `networks`, `sandboxes`, or both; nothing where no daemon answers."""

    def find(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
        client = Client(context.ensure_object(State).socket_path)
        try:
            found: list[dict[str, Any]] = [one for kind in kinds for one in client.get(kind)]
        except LinkspanError:
            return []
        return [one["name"] for one in found if one["name"].startswith(begun)]

    return find


def names_argument(*kinds: str) -> Callable[[Any], Any]:
    """NAME..., at least one, as `names`."""
    return click.argument(
        "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete(*kinds)
    )
