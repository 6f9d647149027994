"""Union-find: which things are one, given which pairs of them are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np


def components(size: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return (size,) int: for each of ``0 .. size - 1`` the smallest that it is linked to.

    Links are followed through any number of others; what is not linked stands for itself.
    """
    parent = list(range(size))

    def root(thing: int) -> int:
        while parent[thing] != thing:
            parent[thing] = parent[parent[thing]]  # halves the path for those who come later
            thing = parent[thing]
        return thing

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return np.array([root(thing) for thing in range(size)], dtype=np.int64)


def joined(names: Sequence[str], shown: int = 8) -> str:
    """Return one name for several: ``A+B``, sorted; of many the first ``shown`` and a count.

    Groups share no member, so the first name alone tells two of them apart.
    """
    order = sorted(names)
    more = [f"{len(order) - shown} more"] if len(order) > shown else []
    return "+".join([*order[:shown], *more])


def chains(keys: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of rows that follow each other among those with one key; ``""`` is no key.

    ``keys`` is (N,) of str. A key of n rows gives n - 1 pairs, which link all of them.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        if key:
            rows_of[key].append(row)
    return [pair for rows in rows_of.values() for pair in pairwise(rows)]
