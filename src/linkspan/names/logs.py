"""The log of the names process: a file in the run folder that nobody can fill a disk with."""

from __future__ import annotations

import logging
import os

from linkspan.names import control

LARGEST_LOG = 1 << 20
LINES_A_SECOND = 20


class _Sparingly(logging.Filter):
    """Lets a number of lines a second through: whoever provokes errors shall not fill a disk."""

    def __init__(self) -> None:
        super().__init__()
        self._second, self._lines = 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written."""
        second = int(record.created)
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= LINES_A_SECOND


def start_log(run_dir: str) -> None:
    """Write to the log of this run folder; one that has grown large is put aside."""
    path = os.path.join(run_dir, control.LOG)
    try:
        if os.path.getsize(path) > LARGEST_LOG:
            os.replace(path, f"{path}.1")
    except OSError:
        pass
    handler = logging.FileHandler(path)
    handler.addFilter(_Sparingly())
    form = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, handlers=[handler])
