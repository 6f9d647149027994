"""Exhibits written by several processes; one writes the whole of each, so bytes are the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from reports.exhibit import Exhibit

Job = tuple[Exhibit, Path]
Write = Callable[[Exhibit, Path], Iterator[Path]]
_write: list[Write] = []  # in a worker: what it was forked with


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def written(write: Write, jobs: Sequence[Job], workers: int) -> Iterator[Path]:
    """Write every exhibit into its folder and yield the files, in the order of the jobs.

    Workers are forks, which have the table already: more than one is for a process without threads
    of its own, such as a command.
    """
    if workers < 2 or len(jobs) < 2 or sys.platform != "linux":
        for job in jobs:
            yield from write(*job)
        return
    n = min(workers, len(jobs))
    with ProcessPoolExecutor(n, get_context("fork"), _write.append, (write,)) as pool:
        for paths in pool.map(_written, jobs):
            yield from paths


def _written(job: Job) -> list[Path]:
    return list(_write[0](*job))
