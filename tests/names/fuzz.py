"""Coverage-guided fuzzing of the resolver: `python tests/names/fuzz.py [-max_total_time=SECONDS]`.

The first byte chooses a sandbox and a transport, the rest is the message. Whatever is found
is checked by the same rules as made-up messages (`resolver_rules`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

with atheris.instrument_imports(include=["linkspan.names"]):
    from linkspan.names.cache import Cache
    from names.resolver_rules import STAGES, check


def run_one(data: bytes) -> None:
    """One message to one sandbox, and the same bytes as an answer from outside."""
    if not data:
        return
    stage = STAGES["open" if data[0] & 1 else "closed"]
    check(stage, data[1:], stream=bool(data[0] & 2))
    if len(data) > 13:
        Cache().put("key", data[1:], 0.0)


def main() -> None:
    """Fuzz until the time is over or something is found."""
    atheris.Setup(sys.argv, run_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
