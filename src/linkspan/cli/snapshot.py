"""`linkspan snapshot`: a look at this host as a file, for questions later or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from linkspan.cli.state import connect, format_option, reads
from linkspan.cli.tables import print_fields, print_json

if TYPE_CHECKING:
    from linkspan.inventory.snapshotformat import Header


@click.group()
def snapshot() -> None:
    """Save what is on this host, and ask it later.

    \b
    sudo linkspan snapshot save before.lks
    linkspan path --from-file before.lks shop db:5432
    sudo linkspan diff before.lks now
    """


@snapshot.command()
@click.argument("file", metavar="FILE")
@click.option("-f", "--force", is_flag=True, help="Overwrite a file that is there.")
@format_option
@reads
def save(file: str, force: bool, output: str) -> int:
    """Write everything that questions need to know of this host to a file.

    All network namespaces with their links, addresses, routes, rules of firewalls, settings and
    waiting sockets, and the names of containers. Only its owner can read the file: it tells much
    about the host. With sudo that is who called sudo.

    Exit status: 0 saved, 1 not, 3 saved, but something of the host could not be seen.

    \b
    sudo linkspan snapshot save before.lks
    """
    import msgspec

    from linkspan.cli.looking import Looking, print_gaps
    from linkspan.cli.records import read_stored
    from linkspan.inventory.snapshot import check_absent
    from linkspan.inventory.snapshot import save as write

    check_absent(file, force=force)
    view = msgspec.structs.replace(Looking().whole(), stored=read_stored(connect()))
    size = write(view, file, force=force)
    if output == "json":
        from linkspan.inventory.snapshot import load_header

        print_json(as_json(load_header(file)[0], size, file))
    else:
        namespaces = {item.namespace for item in view.plane}
        click.echo(
            f"{file}: {len(view.plane)} objects in {len(namespaces)} namespaces, {_size_text(size)}"
        )
    print_gaps(view)
    return 3 if view.unseen or view.changing else 0


@snapshot.command()
@click.argument("file", metavar="FILE")
@format_option
@reads
def show(file: str, output: str) -> None:
    """Say what a snapshot is of: which host, when, whose namespaces, how many of what.

    \b
    linkspan snapshot show before.lks
    """
    from linkspan.cli.looking import WrongWordsError
    from linkspan.errors import SnapshotUnreadable
    from linkspan.inventory.snapshot import load_header

    try:
        header, size = load_header(file)
    except SnapshotUnreadable as error:
        raise WrongWordsError(error.message) from None
    if output == "json":
        print_json(as_json(header, size, file))
        return
    print_fields(
        (
            ("host", header.host or "-"),
            ("kernel", header.kernel or "-"),
            ("taken", _time_text(header.taken)),
            ("by", f"linkspan {header.version}"),
            ("size", _size_text(size)),
            ("namespaces", str(len(header.sections))),
            ("objects", _counts_text(header.counts)),
            ("containers", ", ".join(_owners(header)) or "none"),
            ("plans", "yes" if header.stored else "no: linkspan had nothing stored there"),
        )
    )
    for sentence in (*header.unseen, *(f"{name} changed meanwhile" for name in header.changing)):
        print_fields((("not seen", sentence),))


def as_json(header: Header, size: int, file: str) -> dict[str, Any]:
    """What `show` and `save` answer, as documented in docs/snapshots.md."""
    from msgspec import to_builtins

    return {
        "file": file,
        "size": size,
        "host": header.host,
        "kernel": header.kernel,
        "taken": _time_text(header.taken),
        "version": header.version,
        "containers": to_builtins(header.containers),
        "namespaces": [
            {"name": entry.namespace, "objects": entry.counts} for entry in header.sections
        ],
        "objects": header.counts,
        "unseen": list(header.unseen),
        "changing": list(header.changing),
        "plans": header.stored is not None,
    }


def _time_text(seconds: float) -> str:
    """RFC 3339, as all times of linkspan are shown."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _size_text(size: int) -> str:
    for unit, step in (("MB", 1_000_000), ("kB", 1000)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size} bytes"


def _counts_text(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())


def _owners(header: Header) -> list[str]:
    """How many containers each runtime has."""
    found: dict[str, int] = {}
    for container in header.containers:
        if container.runtime not in ("host", "netns", "process"):
            found[container.runtime] = found.get(container.runtime, 0) + 1
    return [f"{count} of {name}" for name, count in sorted(found.items())]
