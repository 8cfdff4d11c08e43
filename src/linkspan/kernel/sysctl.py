"""Kernel settings of a network namespace: files below /proc/sys/net.

/proc/sys/net shows the settings of the namespace that the reading thread is in, so these
functions enter the namespace for the moment of opening a file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping

from linkspan.errors import InvalidRequest, KernelRefused
from linkspan.kernel.namespaces import entered

ROOT = "/proc/sys/net/"


def read(path: str, namespace: int | None = None) -> str | None:
    """The value of a setting ("ipv4/conf/eth0/rp_filter"); None when this kernel has none.

    `namespace` is an open file descriptor; None is the calling thread's own.
    """
    return read_many((path,), namespace).get(path)


def read_many(paths: Iterable[str], namespace: int | None = None) -> dict[str, str]:
    """The values of several settings, in one visit; those that do not exist are left out."""
    found: dict[str, str] = {}
    folders: dict[str, list[str]] = {}
    for path in paths:
        _file(path)
        folders.setdefault(path.partition("/")[0], []).append(path)
    with _visited(namespace):
        for folder, files in folders.items():
            _read_folder(folder, files, found)
    return found


def _read_folder(folder: str, paths: Iterable[str], found: dict[str, str]) -> None:
    """Read files of one folder of ROOT, which is looked up once: of each namespace there is
    one of that name in one hash table, so with many namespaces that takes long.
    """
    try:
        top = os.open(ROOT + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for path in paths:
            try:
                name = path.partition("/")[2]
                descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=top)
            except OSError:
                continue
            try:
                with contextlib.suppress(OSError):
                    found[path] = os.read(descriptor, 4096).decode().strip()
            finally:
                os.close(descriptor)
    finally:
        os.close(top)


def write(path: str, value: str, namespace: int | None = None) -> None:
    """Give a setting a value. Raises KernelRefused."""
    (error,) = write_many({path: value}, namespace)
    if error is not None:
        raise error


def write_many(
    values: Mapping[str, str], namespace: int | None = None
) -> list[KernelRefused | None]:
    """Give several settings their values, in one visit; one result each, None for done."""
    with _visited(namespace):
        return [_write(path, value) for path, value in values.items()]


def _write(path: str, value: str) -> KernelRefused | None:
    try:
        descriptor = os.open(_file(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        return KernelRefused(f"setting net/{path} to {value}", error.errno or 0)
    return None


def _file(path: str) -> str:
    # A link may be called "..", or hold a slash only in a name that no kernel allows.
    if path.startswith("/") or ".." in path.split("/"):
        raise InvalidRequest(f'"{path}" is not a setting below {ROOT}')
    return ROOT + path


@contextlib.contextmanager
def _visited(namespace: int | None) -> Iterator[None]:
    if namespace is None:
        yield
    else:
        with entered(namespace):
            yield
