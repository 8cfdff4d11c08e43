"""The one way in for questions about a host: what is on it now, or what a file says was on it.

A command takes `view_options`, gets a `Looking`, and asks it for a HostView.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from linkspan.cli.state import connect

if TYPE_CHECKING:
    from linkspan.cli.whereabouts import Whereabouts
    from linkspan.inventory.records import HostView

CANNOT_SAY = 3
"""Exit status of a question that has no answer: the host or a file could not be read."""

F = TypeVar("F", bound=Callable[..., Any])


class WrongWordsError(click.ClickException):
    """What was asked for is not there, or not asked rightly: one line, status 2.

    Usage of the command, as click shows it, would not help: its form was right.
    """

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line on standard error."""
        click.echo(f"linkspan: {' '.join(self.message.split())}", file=file, err=file is None)


class Looking(NamedTuple):
    """What a question is asked of: this host, or a saved one; after what it plans."""

    file: str | None = None
    plans: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Whether this host is looked at, and not a file."""
        return self.file is None

    def whole(self) -> HostView:
        """The whole host.

        Raises NotFound and InvalidRequest for a file that is none, KernelRefused and
        PermissionRefused where the host cannot be read.
        """
        return self._planned(self._load() if self.file else _look(None))

    def around(self, ends: Iterable[Whereabouts]) -> HostView:
        """Enough of the host for a walk between some ends: all that a cable joins to them.

        Out of a file, or after a plan, all of it. Raises as `whole` does, and NotFound for an
        end that names a file or process without a network namespace.
        """
        # Who is only planned cannot be looked for yet.
        near = None if self.plans else tuple(ends)
        return self._planned(self._load() if self.file else _look(near))

    def _load(self) -> HostView:
        from linkspan.inventory.snapshot import load

        assert self.file is not None
        return load(self.file)

    def _planned(self, view: HostView) -> HostView:
        if not self.plans:
            return view
        from linkspan.cli.planning import apply_plans

        return apply_plans(view, self.plans)


def view_options(function: F) -> F:
    """Gives a question --from-file and --plan, as its parameter `looking`.

    Errors end it as documented: a name that nothing has and other wrong words with status 2,
    a host that cannot be read with CANNOT_SAY.
    """

    @click.option(
        "--from-file", "file", metavar="FILE",
        type=click.Path(readable=False),
        help="Ask a saved host (`linkspan snapshot save FILE`) instead of this one; no root.",
    )  # fmt: skip
    @click.option(
        "--plan", "plans", metavar='"COMMAND"', multiple=True,
        help="What if: the answer after this linkspan command. May be given several times.",
    )  # fmt: skip
    @wraps(function)
    def ask(*arguments: Any, file: str | None, plans: tuple[str, ...], **options: Any) -> Any:
        from linkspan.errors import InvalidRequest, LinkspanError, NotFound

        try:
            return function(*arguments, looking=Looking(file, plans), **options)
        except (NotFound, InvalidRequest) as error:
            raise WrongWordsError(error.message) from None
        except LinkspanError as error:
            click.echo(f"linkspan: {' '.join(error.message.split())}", err=True)
            return CANNOT_SAY

    return ask  # type: ignore[return-value]


def is_blind(host: HostView) -> bool:
    """Whether what was not seen may decide any answer: whole namespaces, firewalls, rules."""
    return any("could not be read" in sentence for sentence in host.unseen)


def print_gaps(view: HostView) -> None:
    """Say on standard error what could not be seen, a line each."""
    for sentence in view.unseen:
        click.echo(f"not seen: {sentence}", err=True)
    for name in view.changing:
        click.echo(f"not seen: {name} changed while it was read", err=True)


def _look(ends: tuple[Whereabouts, ...] | None) -> HostView:
    """This host; with `ends`, only what a walk between them needs."""
    from linkspan.cli.hostview import look_at_host

    return look_at_host(connect(), ends)
