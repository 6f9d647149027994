"""The orders that puzzles ask for: far from one another, and the same for ever."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain, permutations
from math import factorial

import numpy as np
import torch
from torch import Tensor

from melssl.seeding import Seed

LISTED = 9  # tiles up to which all orders are compared; 10 have 3.6 million
SAMPLED = 20_000  # orders to choose from where there are too many to list
SPREAD_FIRST = 10**6  # more than any sum of distances: the smallest distance decides before it


def shuffled(tiles: Tensor, orders: Tensor) -> Tensor:
    """Return (B, K, N, ...): place p of puzzle k shows the tile ``orders[b, k, p]`` of image b."""
    image = torch.arange(len(tiles), device=tiles.device)[:, None, None]
    return tiles[image, orders]


@lru_cache(maxsize=4)
def spread_orders(n: int, n_tiles: int = 9) -> np.ndarray:
    """Return ``n`` orders (n, n_tiles) that differ in as many places as can be.

    Greedy, as algorithm 1 of Noroozi and Favaro 2016, but the same for ever: from the identity on,
    the next is the one whose nearest order among the chosen is the farthest; then the one of the
    largest sum of distances; then the first in the list: of all orders, in lexicographic order, or
    of ``SAMPLED`` ones where there are more than of nine tiles.
    """
    known = _all_orders(n_tiles) if n_tiles <= LISTED else _some_orders(n_tiles)
    if n > len(known):
        raise ValueError(f"expected up to {len(known)} orders of {n_tiles} tiles, got {n}")
    by_place = np.ascontiguousarray(known.T)  # ten times as fast to compare as row by row
    nearest, total = np.full(len(known), n_tiles, np.int32), np.zeros(len(known), np.int32)
    chosen = [0]
    while len(chosen) < n:
        last = known[chosen[-1]][:, None]
        distance = (by_place != last).sum(axis=0, dtype=np.int32)
        nearest, total = np.minimum(nearest, distance), total + distance
        chosen.append(int(np.argmax(nearest * SPREAD_FIRST + total)))
    return known[chosen]


def _all_orders(n_tiles: int) -> np.ndarray:
    each = chain.from_iterable(permutations(range(n_tiles)))
    return np.fromiter(each, np.int8, n_tiles * factorial(n_tiles)).reshape(-1, n_tiles)


def _some_orders(n_tiles: int) -> np.ndarray:
    drawn = Seed(0).child("orders", n_tiles).numpy().random((SAMPLED, n_tiles))
    orders: np.ndarray = drawn.argsort(axis=1).astype(np.int8)
    orders[0] = np.arange(n_tiles)
    return orders
