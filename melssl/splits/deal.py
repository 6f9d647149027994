"""Dealing patients to folds so that every fold holds alike outcomes, patients and image counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from melssl.seeding import Seed
from melssl.splits.strata import PatientTable, rarest_first

SCALE = 10**18  # loads are compared as integers, so that no library's rounding can move a patient


def deal(table: PatientTable, n_folds: int, seed: Seed) -> np.ndarray:
    """Return the fold of each patient, shape (P,).

    Patients of a stratum come in blocks of like size, one patient for every fold. Within a block
    the largest goes where the sum of squared loads grows least; a load is a fold's images of a
    class as a share of the class. A class that a fold still lacks goes before everything.
    """
    images: list[list[int]] = table.images.tolist()
    weights = [SCALE // max(1, total) ** 2 for total in map(int, table.images.sum(axis=0))]
    loads = [[0] * table.n_classes for _ in range(n_folds)]
    sizes = [0] * n_folds
    place = np.full(len(table), -1)
    for block in _blocks(table, n_folds, seed):
        free = list(range(n_folds))
        whole = len(block) == n_folds
        for patient in sorted(block, key=lambda p: -_product(images[p], images[p], weights)):
            held = images[patient]
            new = [_new_classes(load, held) for load in loads]
            crowd = [0] * n_folds if whole else sizes
            cost = [_product(load, held, weights) for load in loads]
            chosen = min(free, key=lambda f: (-new[f], crowd[f], cost[f]))
            free.remove(chosen)
            place[patient] = chosen
            sizes[chosen] += 1
            loads[chosen] = [load + n for load, n in zip(loads[chosen], held, strict=True)]
    return place


def _blocks(table: PatientTable, n_folds: int, seed: Seed) -> Iterator[list[int]]:
    """Yield patients of one stratum and of like image counts, rarest stratum and largest first."""
    ranks = seed.ranks(list(table.patient_id)).tolist()
    own = table.images[np.arange(len(table)), table.stratum].tolist()
    total = table.images.sum(axis=1).tolist()
    order = [
        (-_size_class(n), -_size_class(t), r) for n, t, r in zip(own, total, ranks, strict=True)
    ]
    for stratum in rarest_first(table.images):
        members = np.flatnonzero(table.stratum == stratum).tolist()
        members.sort(key=order.__getitem__)
        for start in range(0, len(members), n_folds):
            yield members[start : start + n_folds]


def _size_class(n: int) -> int:
    """Half octaves: coarse enough that large patients, too, meet others under another seed."""
    return (n * n).bit_length()


def _new_classes(load: list[int], held: list[int]) -> int:
    return sum(1 for have, n in zip(load, held, strict=True) if n and not have)


def _product(a: list[int], b: list[int], weights: list[int]) -> int:
    return sum(x * y * w for x, y, w in zip(a, b, weights, strict=True))
