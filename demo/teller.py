"""Tells a story in chapters, sentences and commands that really run, and keeps score.

Commands are run by bash exactly as they are shown. Output is theirs, standard error included.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable
from typing import NamedTuple

WIDTH = 88
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Output(NamedTuple):
    """What a command wrote, and its exit status."""

    status: int
    text: str


class Pace(NamedTuple):
    """Seconds of silence, for people to read; `ask` waits for Enter before each chapter."""

    before_chapter: float = 0.0
    after_text: float = 0.0
    before_output: float = 0.0
    after_output: float = 0.0
    ask: bool = False


NO_PAUSES = Pace()
FOR_READING = Pace(before_chapter=1.2, after_text=0.9, before_output=0.5, after_output=0.9)


class StoryEnds(Exception):
    """What did not come makes the rest of the story pointless."""


class Teller:
    """Writes the story to standard output. `failures` holds every claim that did not hold."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._colour = sys.stdout.isatty()
        plain = "utf" not in (sys.stdout.encoding or "").lower()
        self._tick, self._cross, self._rule = ("ok", "NOT SO", "-") if plain else ("✓", "✗", "─")
        self._chapters = 0
        self.claims = 0
        self.failures: list[str] = []

    # Words

    def title(self, text: str) -> None:
        """The name of the story."""
        print(self._paint(text, "1"))

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        if self._pace.ask and self._chapters:
            print(self._paint("\n  (Enter goes on)", "2"), end="", flush=True)
            sys.stdin.readline()
        elif self._chapters:
            time.sleep(self._pace.before_chapter)
        self._chapters += 1
        head = f"{self._chapters}. {title} "
        print()
        print(self._paint(head + self._rule * (WIDTH - len(head)), "1;36"))

    def say(self, text: str) -> None:
        """A paragraph."""
        print()
        print(textwrap.fill(" ".join(text.split()), WIDTH), flush=True)
        time.sleep(self._pace.after_text)

    def draw(self, picture: str) -> None:
        """A picture, as it stands."""
        print()
        print(textwrap.indent(textwrap.dedent(picture).strip("\n"), "    "))

    # Deeds

    def run(
        self,
        command: str,
        claim: str = "",
        *,
        shows: str = "",
        lacks: str = "",
        refused: bool = False,
        limit: int = 0,
    ) -> Output:
        """Show a command, run it, show its output, and check it.

        `shows` and `lacks` are patterns that the output must and must not hold; `refused`
        expects a failure. `claim` is what that proves, in words. At most `limit` lines are
        shown (0: all).
        """
        print()
        for line in command.splitlines():
            for number, part in enumerate(_fold(line)):
                prompt = "$ " if number == 0 else "    "
                print(f"  {self._paint(prompt, '2')}{self._paint(part, '1')}")
        sys.stdout.flush()
        time.sleep(self._pace.before_output)
        output = (run_on_terminal if self._colour else run_quietly)(command)
        lines = [line.rstrip() for line in output.text.rstrip("\n").splitlines()]
        for line in lines[: limit or None]:
            print(f"  {_wrap(line)}")
        if limit and len(lines) > limit:
            print(self._paint(f"  ... and {len(lines) - limit} lines more", "2"))
        problem = _compare(output, shows, lacks, refused)
        if claim or problem:
            self.claim(claim or command, not problem, problem)
        time.sleep(self._pace.after_output)
        return output

    def claim(self, text: str, holds: bool, problem: str = "") -> None:
        """State something that was checked."""
        self.claims += 1
        if holds:
            print(f"  {self._paint(f'{self._tick} {text}', '32')}", flush=True)
            return
        self.failures.append(f"{text}: {problem}" if problem else text)
        print(f"  {self._paint(f'{self._cross} {text}: {problem}', '1;31')}", flush=True)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 10.0) -> float:
        """Wait for something, without words; the seconds it took. Raises StoryEnds."""
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > seconds:
                self.claim(what, False, f"not within {seconds:g} s")
                raise StoryEnds(what)
            time.sleep(0.02)
        return time.monotonic() - start

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text


def run_on_terminal(command: str, seconds: float = 60.0) -> Output:
    """Run a command with its output on a terminal of our width, so that it shows its best."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH - 2, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.02)[0]:
            if process.poll() is not None:
                break  # a program in the background may hold the terminal for long
            continue
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # EIO: everybody has closed it
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    text = written.decode(errors="replace").replace("\r\n", "\n")
    try:
        return Output(process.wait(max(0.1, deadline - time.monotonic())), text)
    except subprocess.TimeoutExpired:
        process.kill()
        return Output(124, f"{text}\n(no end within {seconds:g} s)")


def run_quietly(command: str, seconds: float = 60.0) -> Output:
    """Run a command as the story would, without a word."""
    try:
        done = subprocess.run(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        written = error.stdout or b""
        text = written.decode(errors="replace") if isinstance(written, bytes) else written
        return Output(124, f"{text}\n(no end within {seconds:g} s)")
    return Output(done.returncode, done.stdout)


def _compare(output: Output, shows: str, lacks: str, refused: bool) -> str:
    """Why the output is not what was expected; "" when it is."""
    text = _COLOURS.sub("", output.text)
    if refused != bool(output.status):
        return f"exit status {output.status}"
    if shows and not re.search(shows, text, re.M):
        return f"its output lacks {shows!r}"
    if lacks and re.search(lacks, text, re.M):
        return f"its output has {lacks!r}"
    return ""


def _fold(line: str) -> list[str]:
    """A command in lines that fit, folded as a shell would still understand."""
    if len(line) <= WIDTH - 4 or "'" in line:
        return [line]
    options, dashes, program = line.partition(" -- ")
    if dashes and max(len(options), len(program)) < WIDTH - 10:
        return [options + " \\", f"-- {program}"]
    parts = textwrap.wrap(line, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    return [part + " \\" for part in parts[:-1]] + parts[-1:]


def _wrap(line: str) -> str:
    """A long sentence folded to the page; tables stay as they are."""
    if len(line) <= WIDTH - 2 or "   " in line:
        return line
    return textwrap.fill(line, WIDTH - 2, subsequent_indent="      ", break_on_hyphens=False)
