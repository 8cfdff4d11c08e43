"""Enters the private world and tells the story; see scripts/demo."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from demo.story import tell
from demo.teller import FOR_READING, NO_PAUSES, StoryEnds, Teller, run_quietly
from demo.world import NotPrivate, enter_world


def main() -> int:
    """The exit status is 0 when every claim held."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="no pauses for reading")
    parser.add_argument("--pause", action="store_true", help="wait for Enter before each chapter")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    pace = FOR_READING if sys.stdout.isatty() and not arguments.fast else NO_PAUSES
    start = time.monotonic()
    teller = Teller(pace._replace(ask=arguments.pause and sys.stdin.isatty()))
    try:
        enter_world()
        tell(teller)
    except NotPrivate as error:
        print(error, file=sys.stderr)
        return 1
    except StoryEnds:
        print("\nThe daemon's last words:", run_quietly("tail -n 15 /run/daemon.log").text)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing stays behind", file=sys.stderr)
        return 130
    print()
    if teller.failures:
        print(f"{len(teller.failures)} of {teller.claims} claims did not hold:")
        for failure in teller.failures:
            print(f"  {failure}")
        return 1
    print(f"All {teller.claims} claims held, in {time.monotonic() - start:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
