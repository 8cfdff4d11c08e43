"""A scratch overlay of the host's file systems, in a mount namespace that dies with its user.

The calling thread leaves the host's mount namespace, mounts, and starts conmon, which keeps the
namespace alive. Nothing is ever mounted where the host could see it, so nothing has to be
unmounted, whatever is killed when. A thread that called `mount_scratch` must end soon and never
return to a pool.

The host's / shows as it is, other mounted file systems (/home, /usr, ...) are laid over it the
same way; memory, network device and kernel file systems are not. Overlay semantics apply:
what the host changes below a running container may or may not be seen by it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import msgspec

from linkspan.errors import KernelRefused

CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV = 2, 4
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19
MOUNT_ATTR_RDONLY = 1
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
"""include/uapi/linux/sched.h, mount.h and fcntl.h."""

SYS_MOUNT_SETATTR = 442
"""The same on every architecture but alpha: include/uapi/asm-generic/unistd.h."""

ALSO_DISKS = {"overlay", "9p", "virtiofs", "nfs", "nfs4", "cifs", "zfs", "bcachefs", "fuse"}
"""File systems without a block device (nodev in /proc/filesystems) that yet hold programs."""

NOT_SHOWN = ("/proc", "/sys", "/dev", "/run", "/tmp")

_libc = ctypes.CDLL(None, use_errno=True)


class HostMount(msgspec.Struct, frozen=True):
    """A file system that is mounted on the host."""

    target: str
    kind: str


def mount_scratch(target: Path, layers: Path, without: Iterable[str] = ()) -> None:
    """Give the calling thread its own mount namespace, and mount the overlay at `target`.

    `layers` holds what is written, and is found again next time. `without` are directories
    below which mounts are left out. Where the file system of `layers` cannot hold an upper
    layer (it is an overlay itself, or a network file system), memory does, and what is written
    is lost when the container ends.

    Raises:
        KernelRefused: names the mount and the errno.
    """
    leave_mount_namespace()
    hidden = (*NOT_SHOWN, *without)
    points = choose_mounts(read_mounts(), read_disk_kinds(), hidden)
    try:
        mount_layer("/", target, layers)
    except KernelRefused as refused:
        if refused.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        if is_first_user_namespace():
            mount("tmpfs", str(layers), "tmpfs", MS_NOSUID | MS_NODEV, "mode=700")
            mount_layer("/", target, layers)
        else:
            mount_directories(target, layers)
    for point in points:
        show(point, Path(f"{target}{point}"), layers)


def mount_directories(target: Path, layers: Path) -> None:
    """Build the root from overlays of the directories in it, each by itself.

    For user namespaces: there the kernel lets nobody look below what is mounted on the host, so
    it refuses an overlay of whatever has mounts in it, such as / with its /proc.

    Raises:
        KernelRefused: names the mount and the errno.
    """
    mount("tmpfs", str(target), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for entry in sorted(os.scandir("/"), key=lambda entry: entry.name):
        place = target / entry.name
        if entry.is_symlink():
            place.symlink_to(os.readlink(entry.path))
        elif entry.is_dir():
            place.mkdir()
            place.chmod(0o1777 if entry.path == "/tmp" else 0o755)
            if entry.path not in NOT_SHOWN:
                show(entry.path, place, layers)


def show(point: str, place: Path, layers: Path) -> None:
    """Mount an overlay of a directory, or if it cannot be a lower layer, itself read-only.

    Raises:
        KernelRefused: names the mount and the errno.
    """
    if not os.path.isdir(point) or not place.is_dir():
        return
    try:
        mount_layer(point, place, layers)
    except KernelRefused:
        mount(point, str(place), "", MS_BIND | MS_REC)
        make_read_only(place)


def mount_layer(lower: str, target: Path, layers: Path) -> None:
    """Mount one overlay of `lower` at `target`.

    Raises:
        KernelRefused: names the mount and the errno.
    """
    place = layers / quote(lower, safe="")
    for name in ("upper", "work"):
        (place / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    here = os.stat(lower)
    os.chmod(place / "upper", here.st_mode & 0o7777)
    if is_first_user_namespace():  # in another, the owner may have no id
        os.chown(place / "upper", here.st_uid, here.st_gid)
    # Relative paths: the options must fit in a page, and need no escapes this way.
    os.chdir(place)
    try:
        mount("overlay", str(target), "overlay", 0, overlay_options(lower))
    finally:
        os.chdir("/")


def overlay_options(lower: str) -> str:
    """Mount options; the kernel takes backslash, comma and colon apart unless escaped."""
    escaped = re.sub(r"([\\,:])", r"\\\1", lower)
    options = f"lowerdir={escaped},upperdir=upper,workdir=work"
    # Only the first user namespace may write trusted.* attributes.
    return options if is_first_user_namespace() else options + ",userxattr"


def is_first_user_namespace() -> bool:
    """Whether root here is root of the host."""
    try:
        return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    except FileNotFoundError:
        return True


def leave_mount_namespace() -> None:
    """Give the calling thread a copy of its mount namespace, and a working directory of its own.

    A slave of the host's: what the host unmounts must not stay busy here.

    Raises:
        KernelRefused: no right to, or too many namespaces.
    """
    if _libc.unshare(CLONE_NEWNS) != 0:
        raise KernelRefused("making a mount namespace", ctypes.get_errno())
    mount("", "/", "", MS_REC | MS_SLAVE)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Attach a file system to the tree: the call of the same name.

    Raises:
        KernelRefused: names the mount and the errno.
    """
    texts = [os.fsencode(text) or None for text in (source, target, kind, options)]
    if _libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]) != 0:
        what = f"mounting {kind or 'mount'} {source} at {target}"
        raise KernelRefused(what, ctypes.get_errno(), options)


def make_read_only(place: Path) -> None:
    """Make a mount and all below it read-only, as mount_setattr(2) can since Linux 5.12.

    Raises:
        KernelRefused: the kernel is older.
    """
    wanted = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    path, size = ctypes.c_char_p(os.fsencode(place)), ctypes.c_size_t(ctypes.sizeof(wanted))
    number, nowhere = ctypes.c_long(SYS_MOUNT_SETATTR), ctypes.c_int(AT_FDCWD)
    if _libc.syscall(number, nowhere, path, ctypes.c_uint(AT_RECURSIVE), wanted, size) != 0:
        raise KernelRefused(f"making {place} read-only", ctypes.get_errno())


def choose_mounts(
    mounts: Iterable[HostMount], disks: frozenset[str], hidden: tuple[str, ...]
) -> list[str]:
    """The mount points besides / to lay an overlay over, outer ones first.

    Of several mounts at one place the last one counts, since it covers the others.
    """
    chosen: dict[str, bool] = {}
    for found in mounts:
        is_disk = found.kind.split(".")[0] in disks
        inside_hidden = any(
            found.target == folder or found.target.startswith(folder + "/") for folder in hidden
        )
        chosen.pop(found.target, None)
        chosen[found.target] = is_disk and not inside_hidden and found.target != "/"
    return [target for target, wanted in chosen.items() if wanted]


def read_mounts() -> list[HostMount]:
    """The mounts of the calling thread's namespace, in the order they were made."""
    mounts = []
    for line in Path("/proc/thread-self/mountinfo").read_text(errors="surrogateescape").split("\n"):
        before, _, after = line.partition(" - ")
        if after:
            target = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
            mounts.append(HostMount(target, after.split()[0]))
    return mounts


def read_disk_kinds() -> frozenset[str]:
    """The kinds of file systems that hold files of their own."""
    lines = Path("/proc/filesystems").read_text().splitlines()
    disks = {line.strip() for line in lines if not line.startswith("nodev")}
    return frozenset(disks | ALSO_DISKS)
