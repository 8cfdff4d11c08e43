"""Prints the rulesets of network namespaces. Runs as a process of its own: `printed` starts it.

It goes through all namespaces that have rules with one libnftables, instead of starting a
program for each; a crash of that library ends this process, not the one that asks. Imports
nothing of ours, so that it starts quickly.

In: JSON, a list of jobs (see `printed.Job`). Out, one a job as it is done: eight bytes of
length, and marshalled a dictionary of what was printed and of what failed.
"""

from __future__ import annotations

import ctypes
import json
import marshal
import os
import sys

_CLONE_NEWNET = 0x40000000
_STATELESS, _HANDLE, _JSON, _TERSE = 1 << 2, 1 << 3, 1 << 4, 1 << 11
_FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Do all jobs of standard input."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    library = None if "--programs" in sys.argv else _load_library()
    out = sys.stdout.buffer
    for job in json.load(sys.stdin):
        done: dict[str, object] = {"name": job["name"], "failed": []}
        if _enter(job["path"], home):
            _print_all(job, library, done)
        else:
            done["gone"] = True
        row = marshal.dumps(done)
        out.write(len(row).to_bytes(8, "little") + row)
        out.flush()


def _enter(path: str | None, home: int) -> bool:
    """Go to a namespace; the one that this process was started in needs no right for it."""
    try:
        place = home if path is None else os.open(path, os.O_RDONLY)
        try:
            current = os.stat("/proc/thread-self/ns/net").st_ino
            wanted = os.fstat(place).st_ino
            return current == wanted or _libc.setns(place, _CLONE_NEWNET) == 0
        finally:
            if place != home:
                os.close(place)
    except OSError:
        return False


def _print_all(job: dict[str, object], library: _Library | None, done: dict[str, object]) -> None:
    failed = done["failed"]
    assert isinstance(failed, list)
    if job["nft"]:
        run = library.run if library is not None else _run_nft
        for key, flags in (("json", _STATELESS | _JSON), ("lines", _STATELESS | _HANDLE | _TERSE)):
            text, error = run(flags)
            done[key] = text
            if error:
                failed.append(error)
                break
    for key in ("saved", "legacy"):
        texts = done[key] = {}
        commands = job[key]
        assert isinstance(commands, dict)
        for family, rows in commands.items():
            texts[family] = b""
            for command in rows:
                text, error = _run(command)
                texts[family] += text
                if error:
                    failed.append(error)


class _Library:
    """libnftables (libnftables(3)). A context belongs to the namespace it was made in."""

    def __init__(self, handle: ctypes.CDLL) -> None:
        self._handle = handle
        handle.nft_ctx_new.restype = ctypes.c_void_p
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            function = getattr(handle, name)
            function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
        for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(handle, name).argtypes = [ctypes.c_void_p]
        handle.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        handle.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

    def run(self, flags: int) -> tuple[bytes, str]:
        """`nft list ruleset`: what it prints, and what is wrong."""
        handle = self._handle
        context = handle.nft_ctx_new(0)
        if not context:
            return b"", "libnftables cannot be used"
        try:
            handle.nft_ctx_buffer_output(context)
            handle.nft_ctx_buffer_error(context)
            handle.nft_ctx_output_set_flags(context, flags)
            if handle.nft_run_cmd_from_buffer(context, b"list ruleset"):
                said = handle.nft_ctx_get_error_buffer(context).decode(errors="replace").strip()
                return b"", f"nft: {said[:300]}"
            return handle.nft_ctx_get_output_buffer(context), ""
        finally:
            handle.nft_ctx_free(context)


def _load_library() -> _Library | None:
    try:
        return _Library(ctypes.CDLL("libnftables.so.1"))
    except (OSError, AttributeError):
        return None


def _run_nft(flags: int) -> tuple[bytes, str]:
    options = ["-s", "-j"] if flags & _JSON else ["-s", "-a", "-t"]
    return _run(["nft", *options, "list", "ruleset"])


def _run(command: list[str]) -> tuple[bytes, str]:
    """What a program prints, and what is wrong."""
    path = next((path for f in _FOLDERS if os.access(path := f"{f}/{command[0]}", os.X_OK)), None)
    if path is None:
        return b"", f"there is no program {command[0]} here"
    reading, writing = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    pid = os.posix_spawn(
        path, [path, *command[1:]], {"PATH": ":".join(_FOLDERS), "LC_ALL": "C"},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, writing, 1),
            (os.POSIX_SPAWN_DUP2, null, 2),
        ],
    )  # fmt: skip
    os.close(writing)
    os.close(null)
    with open(reading, "rb") as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return text, f"{command[0]} failed with status {status}" if status else ""


if __name__ == "__main__":
    main()
