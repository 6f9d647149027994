"""Stopping: a first Ctrl-C or SIGTERM lets trainings save their state, a second one does not."""

from __future__ import annotations

import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """A wish to stop, told to workers by the file ``path``: they may be on other machines."""

    path: Path
    asked_at: float | None = None

    @property
    def is_asked(self) -> bool:
        """Whether somebody wants to stop."""
        return self.asked_at is not None

    @property
    def seconds(self) -> float:
        """How long ago, 0 if nobody does."""
        return 0.0 if self.asked_at is None else time.monotonic() - self.asked_at

    def ask(self) -> None:
        """Ask all workers to stop."""
        self.asked_at = time.monotonic()
        self.path.touch()


@contextmanager
def stoppable(folder: Path) -> Iterator[Stop]:
    """Yield the wish to stop, which signals to this process express while the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    stop = Stop(folder / f"stop-{secrets.token_hex(4)}")
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def asked(number: int, frame: object) -> None:
        for again in SIGNALS:
            signal.signal(again, signal.default_int_handler)
        print("\nstopping when trainings have saved; again to stop at once", file=sys.stderr)
        stop.ask()

    for number in SIGNALS:
        signal.signal(number, asked)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.path.unlink(missing_ok=True)
