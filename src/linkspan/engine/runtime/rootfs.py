"""Looking things up in a root file system: paths, programs, users. Reads files, changes none.

Links are followed as the container would follow them: an absolute target starts at the root of
the file system that is looked at, and `..` never leaves it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from linkspan.errors import InvalidRequest

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOST_LINKS = 40
"""As many symbolic links as the kernel follows in one path (path_resolution(7))."""
HIGHEST_ID = 2**32 - 2
"""The highest user or group id; the one above means "no change" to chown(2)."""


class Identity(msgspec.Struct, frozen=True):
    """Whom a process runs as, and where that user's home is."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve(root: Path, path: str) -> Path:
    """The place on the host of `path` inside `root`; its last parts need not exist.

    Raises:
        InvalidRequest: more than 40 symbolic links, a loop.
    """
    left = [part for part in path.split("/") if part]
    done: list[str] = []
    links = 0
    while left:
        part = left.pop(0)
        if part == ".":
            continue
        if part == "..":
            del done[-1:]
            continue
        try:
            target = os.readlink(root.joinpath(*done, part))
        except OSError:  # no link, or not there
            done.append(part)
            continue
        links += 1
        if links > MOST_LINKS:
            raise InvalidRequest(f"{path!r} in {root}: too many symbolic links")
        if target.startswith("/"):
            done.clear()
        left[:0] = [part for part in target.split("/") if part]
    return root.joinpath(*done)


def check_workdir(root: Path, workdir: str) -> None:
    """Refuse a working directory that does not exist.

    Raises:
        InvalidRequest: it is missing, or not a directory.
    """
    place = resolve(root, workdir)
    if not place.exists():
        raise InvalidRequest(f"working directory {workdir!r} does not exist in the container")
    if not place.is_dir():
        raise InvalidRequest(f"working directory {workdir!r} is not a directory")


def check_program(root: Path, program: str, search_path: str, workdir: str) -> None:
    """Refuse a program that execvp(3) would not find, before anything is made for it.

    Raises:
        InvalidRequest: it is not there, is a directory, or nobody may execute it.
    """
    if "/" in program:
        place = resolve(root, program if program.startswith("/") else f"{workdir}/{program}")
        if not place.exists():
            raise InvalidRequest(f"command {program!r} does not exist in the container")
        if not is_executable(place):
            raise InvalidRequest(f"command {program!r} is not an executable file")
        return
    for folder in search_path.split(":"):
        if is_executable(resolve(root, f"{folder or workdir}/{program}")):
            return
    raise InvalidRequest(f"command {program!r} was not found in the container's {search_path}")


def is_executable(place: Path) -> bool:
    """Whether this is a regular file that somebody may execute."""
    try:
        mode = place.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def look_up_user(root: Path, user: str) -> Identity:
    """Whom `uid[:gid]` or `name[:group]` means in this root file system; empty means root.

    A number need not be listed. Without a group the user's own is taken (0 for an unlisted
    number), and the other groups that list the user are joined; with a group only that one.

    Raises:
        InvalidRequest: the name is not in /etc/passwd or /etc/group, or a number is too high.
    """
    wanted, _, wanted_group = user.partition(":")
    if user.startswith(":") or user.endswith(":"):
        raise InvalidRequest(f"user {user!r}: must be uid[:gid] or name[:group]")
    name, uid, gid, home = find_user(root, wanted or "0")
    if wanted_group:
        return Identity(uid, find_group(root, wanted_group), (), home)
    groups = sorted(
        int(fields[2])
        for fields in read_table(root, "/etc/group", 4)
        if name and name in fields[3].split(",") and fields[2].isdecimal()
    )
    return Identity(uid, gid, tuple(group for group in groups if group != gid), home)


def find_user(root: Path, wanted: str) -> tuple[str, int, int, str]:
    """Name, uid, gid and home of a user by name or number.

    Raises:
        InvalidRequest: there is no such name, or the number is too high.
    """
    for fields in read_table(root, "/etc/passwd", 6):
        if wanted in (fields[0], fields[2]) and fields[2].isdecimal() and fields[3].isdecimal():
            return fields[0], int(fields[2]), int(fields[3]), fields[5] or "/"
    if not wanted.isdecimal():
        raise InvalidRequest(f"user {wanted!r} is not in the container's /etc/passwd")
    if int(wanted) > HIGHEST_ID:
        raise InvalidRequest(f"user {wanted}: the highest user id is {HIGHEST_ID}")
    return "", int(wanted), 0, "/"


def find_group(root: Path, wanted: str) -> int:
    """The group id of a group by name or number.

    Raises:
        InvalidRequest: there is no such name, or the number is too high.
    """
    if wanted.isdecimal():
        if int(wanted) > HIGHEST_ID:
            raise InvalidRequest(f"group {wanted}: the highest group id is {HIGHEST_ID}")
        return int(wanted)
    for fields in read_table(root, "/etc/group", 3):
        if fields[0] == wanted and fields[2].isdecimal():
            return int(fields[2])
    raise InvalidRequest(f"group {wanted!r} is not in the container's /etc/group")


def read_table(root: Path, path: str, least: int) -> list[list[str]]:
    """The lines of a colon-separated file that have `least` fields; none if it is unreadable."""
    try:
        text = resolve(root, path).read_text(errors="replace")
    except OSError:
        return []
    rows = [line.split(":") for line in text.splitlines()]
    return [fields for fields in rows if len(fields) >= least]
