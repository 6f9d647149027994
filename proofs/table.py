"""Seeded replicates on all cores, and the Markdown table that shows what came out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from joblib import Parallel, delayed

Result = TypeVar("Result")
CHUNKS = 16  # per run: small enough to end together, large enough to hide a process's start


def simulated(function: Callable[[int], Result], n: int, cores: int) -> list[Result]:
    """Return ``function(0)`` .. ``function(n - 1)``, computed by ``cores`` processes."""
    chunks = np.array_split(np.arange(n), min(n, CHUNKS))
    done = Parallel(n_jobs=cores, backend="loky")(
        delayed(_each)(function, chunk.tolist()) for chunk in chunks
    )
    return [result for chunk in done for result in chunk]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with the first column left and the others right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def error(rate: float, n: int) -> float:
    """Return the Monte-Carlo standard error of a rate over n replicates."""
    return float(np.sqrt(rate * (1 - rate) / n))


def cores_here() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def tell(text: str, began: float) -> None:
    """Say on standard error what has been done and how long it has taken."""
    print(f"{time.perf_counter() - began:6.0f} s  {text}", file=sys.stderr, flush=True)


def _each(function: Callable[[int], Result], indices: list[int]) -> list[Result]:
    return [function(index) for index in indices]
