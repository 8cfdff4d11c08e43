"""Writes the reference parts of the docs from the code: commands, operations, errors.

The text between `<!-- reference: start -->` and `<!-- reference: end -->` is made here;
everything around it is written by hand. `--check` changes nothing and fails when a page is old.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from linkspan import errors
from linkspan.api.operation import Operation

DOCS = Path(__file__).resolve().parents[1] / "docs"
START = "<!-- reference: start -->"
END = "<!-- reference: end -->"


def commands_of(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[click.Context, click.Command]]:
    """Every command of a tree that is not hidden, groups before their members."""
    context = click.Context(command, parent=parent, info_name=name)
    yield context, command
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            if child is not None and not child.hidden:
                yield from commands_of(child, child_name, context)


def options_of(command: click.Command) -> list[click.Option]:
    """The options that a user may see, in the order in which they were declared."""
    found = [one for one in command.params if isinstance(one, click.Option)]
    return [one for one in found if not one.hidden]


def error_classes() -> list[type[errors.LinkspanError]]:
    """Every public error, in the order of the file."""
    return [
        one
        for name, one in vars(errors).items()
        if inspect.isclass(one)
        and issubclass(one, errors.LinkspanError)
        and not name.startswith("_")
    ]


def describe_option(option: click.Option) -> str:
    """One row of a table: spellings, value, help."""
    spellings = ", ".join(f"`{one}`" for one in [*option.opts, *option.secondary_opts])
    value = ""
    if not option.is_flag and not option.count:
        if isinstance(option.type, click.Choice):
            value = " or ".join(f"`{one}`" for one in option.type.choices)
        else:
            value = f"`{option.metavar or option.type.name.upper()}`"
    more = " May be repeated." if option.multiple else ""
    if option.show_default and isinstance(option.default, str | int) and value:
        more += f" Default: `{option.default}`."
    text = f"{' '.join((option.help or '').split())}{more}".replace("|", "\\|")
    return f"| {spellings} | {value} | {text} |"


def describe_help(command: click.Command) -> str:
    """The help text, with what click is told not to rewrap as a code block."""
    text = inspect.cleandoc(command.help or "").split("\f")[0].strip()
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        f"```text\n{one.removeprefix(chr(8)).strip(chr(10))}\n```" if one.startswith("\b") else one
        for one in paragraphs
    )


def describe_command(context: click.Context, command: click.Command) -> str:
    """A heading, the usage line, the help text, and a table of options."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"### {context.command_path}", f"```text\n{usage}\n```", describe_help(command)]
    if rows := [describe_option(one) for one in options_of(command)]:
        parts.append("\n".join(["| Option | Value | Meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(part for part in parts if part)


def describe_commands() -> str:
    """The reference part of docs/cli.md."""
    from linkspan.cli import cli

    return "\n\n".join(describe_command(*pair) for pair in commands_of(cli, "linkspan"))


def describe_errors() -> str:
    """The reference part of docs/errors.md."""
    rows = [
        f"| `{one.code}` | {one.status} | `{one.__name__}` | "
        f"{' '.join((inspect.getdoc(one) or '').split(chr(10) * 2)[0].split())} |"
        for one in error_classes()
    ]
    return "\n".join(["| Code | Status | Class | Situation |", "|---|---|---|---|", *rows])


def describe_own_operations() -> str:
    """The reference part of docs/api.md."""
    from linkspan.api.application import OPERATIONS

    return describe_operations(OPERATIONS)


def describe_docker_operations() -> str:
    """The reference part of docs/docker-api.md."""
    from linkspan.api.docker.application import OPERATIONS

    return describe_operations(OPERATIONS)


def describe_operations(operations: Iterable[Operation]) -> str:
    """A table of operations: method and path, what it does, parameters of its query."""
    rows = []
    for one in operations:
        query = ", ".join(f"`{parameter.name}`" for parameter in one.query)
        rows.append(f"| `{one.method} {one.path}` | {one.summary} | {query} |")
    return "\n".join(["| Operation | What it does | Query |", "|---|---|---|", *rows])


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": describe_errors,
    "api.md": describe_own_operations,
    "docker-api.md": describe_docker_operations,
    "cli.md": describe_commands,
}
"""Each page with a generated part, and what writes it."""


def replace_reference(page: str, reference: str) -> str:
    """The page with this reference between its markers."""
    before, found_start, rest = page.partition(START)
    _, found_end, after = rest.partition(END)
    if not (found_start and found_end):
        raise SystemExit(f"a page lacks the markers {START} and {END}")
    return f"{before}{START}\n\n{reference}\n\n{END}{after}"


def main() -> None:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(prog="scripts/docs-reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when old")
    check = parser.parse_args().check
    old = []
    for name, describe in PAGES.items():
        path = DOCS / name
        current = path.read_text()
        fresh = replace_reference(current, describe())
        if fresh != current:
            old.append(name)
            if not check:
                path.write_text(fresh)
                print(f"wrote docs/{name}")
    if check and old:
        sys.exit(f"old: {', '.join(old)}; run scripts/docs-reference")


if __name__ == "__main__":
    main()
