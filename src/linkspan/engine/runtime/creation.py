"""Making a container, step by step, and undoing the steps when one fails. Blocks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from linkspan.engine.runtime.bundle import FILES, compose_config, hostname_of
from linkspan.engine.runtime.conmon import (
    ReportReader,
    container_arguments,
    explain_failure,
    spawn,
    stdio_arguments,
)
from linkspan.engine.runtime.deletion import remove_bundle
from linkspan.engine.runtime.host import look_at_host
from linkspan.engine.runtime.overlay import mount_scratch
from linkspan.engine.runtime.paths import ContainerPaths
from linkspan.engine.runtime.processes import read_number
from linkspan.engine.runtime.programs import Programs
from linkspan.engine.runtime.rootfs import (
    DEFAULT_PATH,
    Identity,
    check_program,
    check_workdir,
    look_up_user,
)
from linkspan.engine.runtime.spec import ContainerSpec, Started
from linkspan.errors import InvalidRequest, RuntimeFailed, StorageFailed


def create_container(
    programs: Programs, spec: ContainerSpec, paths: ContainerPaths, hidden: tuple[Path, ...]
) -> Started:
    """Make a container whose program waits for its start.

    Must run in a thread of its own, which then ends: it may leave the host's mount namespace.
    `hidden` are directories of the host that a scratch overlay must not show. Files that an
    earlier container of this id wrote are found again. After an error the caller removes the
    container, from another thread: seen from this one, the host's files lie inside it.

    Raises:
        InvalidRequest: the root file system lacks the command, the user or the directory.
        RuntimeFailed: the runtime refused; holds its reason.
        StorageFailed: a file could not be written.
        KernelRefused: the overlay could not be mounted.
    """
    try:
        prepare(spec, paths, hidden)
    except OSError as error:
        doing = f"preparing container {spec.name}"
        raise StorageFailed(f"{doing}: {error.strerror}: {error.filename}") from error
    return run_conmon(programs, spec, paths)


def prepare(spec: ContainerSpec, paths: ContainerPaths, hidden: tuple[Path, ...]) -> None:
    """Everything that the runtime needs: directories, root file system, configuration."""
    make_directories(paths)
    files = write_files(spec, paths.bundle)
    covered: tuple[str, ...] = ()
    if spec.rootfs is None:
        mount_scratch(paths.rootfs, paths.layers, map(str, hidden))
        root = paths.rootfs
        covered = tuple(str(place) for place in hidden if (root / f".{place}").is_dir())
    else:
        root = check_rootfs(spec.rootfs)
    identity = check_contents(spec, root)
    config = compose_config(
        spec, identity, look_at_host(), paths.bundle, files=files, hidden=covered
    )
    (paths.bundle / "config.json").write_bytes(msgspec.json.encode(config))


def make_directories(paths: ContainerPaths) -> None:
    """Make empty directories for a bundle, and the lasting ones unless they are there."""
    for directory in (paths.state.parent, paths.bundle.parent, paths.oci.parent):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.state.mkdir(mode=0o700, exist_ok=True)
    paths.exit.unlink(missing_ok=True)
    remove_bundle(paths)
    paths.bundle.mkdir(mode=0o700)
    paths.rootfs.mkdir()


def write_files(spec: ContainerSpec, bundle: Path) -> tuple[str, ...]:
    """Write what is bind-mounted over files of /etc; answers which of them."""
    hostname = hostname_of(spec)
    texts = {
        "/etc/hosts": spec.hosts or compose_hosts(hostname),
        "/etc/hostname": hostname + "\n",
        "/etc/resolv.conf": spec.resolv_conf,
    }
    if spec.resolv_conf is None and spec.rootfs is None:
        # Often a link into the host's /run, which the container does not see.
        with contextlib.suppress(OSError):
            texts["/etc/resolv.conf"] = Path("/etc/resolv.conf").read_text(errors="replace")
    for target, text in texts.items():
        if text is not None:
            (bundle / FILES[target]).write_text(text)
            (bundle / FILES[target]).chmod(0o644)
    return tuple(target for target, text in texts.items() if text is not None)


def compose_hosts(hostname: str) -> str:
    """The /etc/hosts of a container for which none was given."""
    return (
        f"127.0.0.1\tlocalhost {hostname}\n"
        f"::1\tlocalhost ip6-localhost ip6-loopback {hostname}\n"
        "fe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )


def check_rootfs(rootfs: str) -> Path:
    """The root file system a user named.

    Raises:
        InvalidRequest: it is missing, no directory, or the host's own.
    """
    root = Path(rootfs)
    if not root.exists():
        raise InvalidRequest(f"root file system {rootfs!r} does not exist")
    if not root.is_dir():
        raise InvalidRequest(f"root file system {rootfs!r} is not a directory")
    if os.path.samefile(root, "/"):
        raise InvalidRequest("root file system '/': leave --rootfs out for an overlay of the host")
    return root


def check_contents(spec: ContainerSpec, root: Path) -> Identity:
    """Look up the user, and refuse a program or directory that is not there.

    Raises:
        InvalidRequest: names what is missing.
    """
    identity = look_up_user(root, spec.user)
    check_workdir(root, spec.workdir)
    search_path = next(
        (text.partition("=")[2] for text in reversed(spec.env) if text.startswith("PATH=")),
        DEFAULT_PATH,
    )
    check_program(root, spec.command[0], search_path, spec.workdir)
    return identity


def run_conmon(programs: Programs, spec: ContainerSpec, paths: ContainerPaths) -> Started:
    """Start conmon in the namespaces of this thread, and wait until the container is made.

    Raises:
        RuntimeFailed: holds the runtime's reason.
        StorageFailed: conmon ended early, and a disk is full.
    """
    arguments = container_arguments(programs, spec.id, spec.name, paths, spec.log_size_max)
    arguments += stdio_arguments(spec.tty, spec.interactive)
    reading, writing = os.pipe()
    try:
        try:
            spawn(arguments, paths.state, {"_OCI_SYNCPIPE": writing})
        finally:
            os.close(writing)
        report = ReportReader(reading).read()
    finally:
        os.close(reading)
    if report is None:  # it has no words once it has left us
        check_space(paths)
    if report is None or report.data <= 0:
        said = report.message if report else "conmon ended early"
        raise explain_failure(paths, said, f"container {spec.name} could not be made")
    conmon_pid = read_number(paths.conmon_pid)
    if conmon_pid is None:
        raise RuntimeFailed(f"container {spec.name} could not be made: conmon left no process id")
    return Started(report.data, conmon_pid)


def check_space(paths: ContainerPaths) -> None:
    """Say so if a disk is full.

    Raises:
        StorageFailed: there is no room for another file.
    """
    for place in (paths.state, paths.bundle):
        room = os.statvfs(place)
        if room.f_bavail == 0 or (room.f_files and room.f_favail == 0):
            raise StorageFailed(f"no space left on the device of {place}: free some, then retry")
