"""Numbers of an audit: what was compared, and how much of each kind of evidence there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from melssl.audit.evidence import OWN, Evidence, Look
from melssl.audit.groups import components
from melssl.data.cohort import SamePicture


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """How many pairs of samples one kind of evidence found, and how many join two units."""

    total: int
    across: int


@dataclass(frozen=True, kw_only=True)
class Listed:
    """How many pairs a list declares: with both samples in the cohort, with one, with none."""

    both: int
    one: int
    none: int

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.both + self.one + self.none


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What was compared and found.

    ``pairs`` by kind of evidence, ``declared`` by list. ``redundant`` samples repeat a picture of
    their own unit: so many could go and every picture would still be there.
    """

    samples: int
    units: int
    external_samples: int
    external_units: int
    files_read: int
    files_absent: int
    pairs: Mapping[str, Pairs]
    declared: Mapping[str, Listed]
    redundant: int
    seconds: float


def pairs_of(keys: np.ndarray, units: np.ndarray) -> Pairs:
    """Count the pairs of rows (N,) with one key, all of them and those of two units."""
    table = pd.DataFrame({"key": keys, "unit": units})[keys != ""]
    total = _pairs(table.groupby("key").size())
    return Pairs(total=total, across=total - _pairs(table.groupby(["key", "unit"]).size()))


def _pairs(sizes: pd.Series) -> int:
    return int((sizes * (sizes - 1) // 2).sum())


def count_evidence(
    rows: pd.DataFrame, look: Look, declared: Sequence[Evidence]
) -> dict[str, Pairs]:
    """Count the evidence by kind; byte-identical files and lesions as all pairs, not as chains."""
    units = rows["unit"].to_numpy()
    counts = {
        "lesion": pairs_of(rows["lesion"].to_numpy(object), units),
        "bytes": pairs_of(look.sha256, units),
    }
    for kind, found in (("declared", declared), ("near", look.near)):
        across = sum(bool(units[e.first] != units[e.second]) for e in found)
        counts[kind] = Pairs(total=len(found), across=across)
    return counts


def count_lists(rows: pd.DataFrame, declared: Iterable[SamePicture]) -> dict[str, Listed]:
    """Count by list how many of its pairs have both samples, one, or none in the cohort."""
    here = set(rows.loc[rows["side"] == OWN, "sample_id"])
    found = Counter((pair.by, (pair.first in here) + (pair.second in here)) for pair in declared)
    return {
        by: Listed(both=found[by, 2], one=found[by, 1], none=found[by, 0])
        for by in sorted({by for by, _ in found})
    }


def count_redundant(n_rows: int, within: Iterable[Evidence]) -> int:
    """Count the samples that could go, given the links of one picture within one unit."""
    leader = components(n_rows, ((e.first, e.second) for e in within))
    return n_rows - len(np.unique(leader))
