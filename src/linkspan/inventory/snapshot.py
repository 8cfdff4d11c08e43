"""Snapshots on a disk: written whole or not at all, for nobody but their owner to read."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets

from linkspan.errors import Conflict, PermissionRefused, SnapshotUnreadable, StorageFailed
from linkspan.inventory.records import HostView
from linkspan.inventory.snapshotformat import LARGEST, Header, decode, decode_header, encode

_MODE = 0o600


def save(view: HostView, path: str, *, force: bool = False) -> int:
    """Write a look at a host to a file; gives its size in bytes.

    The file is there whole or not at all, with mode 0600. Root that somebody became by sudo
    leaves it to them, who then need not be root to ask it. Raises Conflict when there is a
    file already (unless `force`), StorageFailed, PermissionRefused; then nothing has changed.
    """
    check_absent(path, force=force)
    data = encode(view)
    folder = os.path.dirname(os.path.abspath(path))
    draft = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            with open(descriptor, "wb") as file:
                _leave_to_caller(descriptor)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            _put_in_place(draft, path, force)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        _sync_folder(folder)
    except PermissionError as error:
        raise PermissionRefused(f"cannot write {path}: {error.strerror}") from None
    except OSError as error:
        raise StorageFailed(
            f"cannot write {path}: {error.strerror or error}; nothing was written"
        ) from None
    return len(data)


def check_absent(path: str, *, force: bool = False) -> None:
    """Raise Conflict when a snapshot would overwrite something."""
    if os.path.isdir(path):
        raise Conflict(f"{path} is a folder; name a file in it")
    if os.path.lexists(path) and not force:
        raise Conflict(f"{path} exists already; choose another name, or overwrite it with --force")


def load(path: str) -> HostView:
    """The look at a host that was saved in a file. Raises SnapshotUnreadable."""
    return decode(_read(path), path)


def load_header(path: str) -> tuple[Header, int]:
    """What a snapshot says of itself, and its size in bytes. Raises SnapshotUnreadable."""
    data = _read(path)
    return decode_header(data, path), len(data)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                raise SnapshotUnreadable(
                    f"{path} has {size >> 20} MiB; more than {LARGEST >> 20} MiB are not read"
                )
            data = file.read(LARGEST + 1)
    except PermissionError:
        raise SnapshotUnreadable(
            f"{path}: no permission to read it; a snapshot is its owner's alone: "
            f"use sudo, or have it given to you with chown"
        ) from None
    except OSError as error:
        raise SnapshotUnreadable(f"{path}: {error.strerror or error}") from None
    if len(data) > LARGEST:
        raise SnapshotUnreadable(f"{path} has no end; more than {LARGEST >> 20} MiB are not read")
    return data


def _leave_to_caller(descriptor: int) -> None:
    """Give the file to whoever called sudo."""
    user, group = (os.environ.get(name, "") for name in ("SUDO_UID", "SUDO_GID"))
    if os.geteuid() == 0 and user.isdecimal() and group.isdecimal():
        os.fchown(descriptor, int(user), int(group))


def _put_in_place(draft: str, path: str, force: bool) -> None:
    if force:
        os.replace(draft, path)
        return
    # A link fails where a file appeared meanwhile; a renamed file would take its place.
    try:
        os.link(draft, path)
    except FileExistsError:
        raise Conflict(f"{path} was written by another meanwhile; choose another name") from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        check_absent(path)  # a file system without links
        os.replace(draft, path)
        return
    os.unlink(draft)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
