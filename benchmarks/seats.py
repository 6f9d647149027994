"""Seats: processes that stay, so that ways with other thread counts can take turns."""

from __future__ import annotations

import multiprocessing
import traceback
from multiprocessing.connection import Connection
from types import TracebackType

from benchmarks.measure import Lap, Runner, Where, Work

PRELOADED = ["torch", "torchvision.transforms.v2", "timm", "lightly.loss", "melssl.pipeline"]


class SeatFailed(RuntimeError):  # noqa: N818  # what happened, not a kind of error
    """A process could not do its work; the message holds its traceback."""


class Here:
    """A crew without processes: everything runs in this one, one lap after another."""

    def __init__(self) -> None:
        self._runners: dict[Work, Runner] = {}

    def lap(self, where: Where, work: Work, steps: int) -> list[Lap]:
        """Do the steps once, whatever ``where`` says."""
        if work not in self._runners:
            self._runners[work] = work.prepare()
        return [self._runners[work](steps)]


class Seats:
    """``solo``: one process of one thread; ``all``: one per core; ``wide``: one of all threads.

    The processes start on entry and end on exit of the context.
    """

    def __init__(self, cores: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._narrow = [_Seat(context, threads=1) for _ in range(cores)]
        self._wide = _Seat(context, threads=cores) if cores > 1 else self._narrow[0]

    def __enter__(self) -> Seats:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for seat in {*self._narrow, self._wide}:
            seat.close(at_once=error is not None)

    def lap(self, where: Where, work: Work, steps: int) -> list[Lap]:
        """Do the steps in every process of ``where`` at once.

        Raises:
            SeatFailed: a process ended or raised.

        """
        chosen = {"solo": self._narrow[:1], "all": self._narrow, "wide": [self._wide]}[where]
        for seat in chosen:
            seat.begin(work, steps)
        return [seat.end() for seat in chosen]


class _Seat:
    def __init__(self, context: multiprocessing.context.ForkServerContext, threads: int) -> None:
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, threads))
        self._process.start()
        theirs.close()

    def begin(self, work: Work, steps: int) -> None:
        self._ours.send((work, steps))

    def end(self) -> Lap:
        try:
            answer = self._ours.recv()
        except EOFError:
            raise SeatFailed("a measuring process ended by itself, most often for memory") from None
        if isinstance(answer, str):
            raise SeatFailed(answer)
        lap: Lap = answer
        return lap

    def close(self, *, at_once: bool) -> None:
        self._ours.close()
        if at_once:
            self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    here = Here()
    while True:
        try:
            work, steps = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send(here.lap("solo", work, steps)[0])
        except Exception:
            pipe.send(traceback.format_exc())
