"""A client that keeps one TCP connection busy: a numbered line every 50 ms, and its echo.

    python3 talk.py ADDRESS PORT SECONDS

Prints how many lines went out and came back, and the longest wait for an echo.
"""

from __future__ import annotations

import socket
import sys
import time


def talk(address: str, port: int, seconds: float) -> int:
    """Hold the conversation; the exit status is 0 when every line came back."""
    sent = came_back = 0
    longest = 0.0
    end = time.monotonic() + seconds
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            answers = connection.makefile("rb")
            while time.monotonic() < end:
                start = time.monotonic()
                line = b"line %d\n" % sent
                connection.sendall(line)
                sent += 1
                came_back += answers.readline() == line
                longest = max(longest, time.monotonic() - start)
                time.sleep(0.05)
    except OSError as error:
        print(f"the connection broke after {came_back} lines: {error}")
        return 1
    print(
        f"{sent} lines sent, {came_back} came back, "
        f"longest wait {longest * 1000:.0f} ms, one connection"
    )
    return 0 if sent and sent == came_back else 1


if __name__ == "__main__":
    sys.exit(talk(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
