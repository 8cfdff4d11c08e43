"""The options by which a question is also tried for real."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

_SECONDS = 2.0

F = TypeVar("F", bound=Callable[..., Any])


def live_options(function: F) -> F:
    """Gives a command --live and --timeout, as its parameter `live`: seconds to wait, or None."""

    @click.option(
        "--live", "wanted", is_flag=True,
        help="Send one real packet, trace it through the kernel, and compare.",
    )  # fmt: skip
    @click.option(
        "--timeout", type=click.FloatRange(0.05, 60), metavar="SECONDS",
        help=f"With --live: how long to wait for an answer. Default: {_SECONDS:g}.",
    )  # fmt: skip
    @wraps(function)
    def ask(*arguments: Any, wanted: bool, timeout: float | None, **options: Any) -> Any:
        if timeout is not None and not wanted:
            raise click.UsageError("--timeout is for --live")
        live = (_SECONDS if timeout is None else timeout) if wanted else None
        return function(*arguments, live=live, **options)

    return ask  # type: ignore[return-value]
