"""A competition's form: which ids, in which order, with one score each; filled and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from melssl.errors import CohortError, listed

SAMPLE = "sample_submission.csv"


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the sample of a submission shows: its two columns, and its ids in order."""

    id_column: str
    score_column: str
    ids: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> Form:
        """Read a competition's sample.

        Raises:
            CohortError: it is missing, has other than two columns, or an id twice.

        """
        try:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise CohortError(
                f"{path}: expected the competition's sample, which names the ids in order"
                f" ({error}); put it there, or name it with --sample"
            ) from None
        if frame.shape[1] != 2 or frame.iloc[:, 0].duplicated().any() or frame.empty:
            raise CohortError(
                f"{path}: expected two columns, an id that stands once and a score, got columns"
                f" {', '.join(frame.columns)} and {len(frame)} rows; name another with --sample"
            )
        name, score = frame.columns
        return cls(id_column=name, score_column=score, ids=tuple(frame[name]))

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Return the ids that the form asks for and that are not among ``ids``."""
        here = set(ids)
        return [name for name in self.ids if name not in here]

    def filled(self, scores: Mapping[str, float]) -> pd.DataFrame:
        """Return the form with its scores; one that has none gets the median of all others."""
        middle = float(np.median(list(scores.values())))
        values = [scores.get(name, middle) for name in self.ids]
        return pd.DataFrame({self.id_column: self.ids, self.score_column: values})

    def faults(self, path: Path) -> list[str]:
        """Return what a competition would refuse in a submission on disk."""
        try:
            frame = pd.read_csv(path, dtype={self.id_column: str}, keep_default_na=False)
        except (OSError, ValueError) as error:
            return [f"cannot be read ({error})"]
        if list(frame.columns) != [self.id_column, self.score_column]:
            return [f"expected columns {self.id_column}, {self.score_column}, got {list(frame)}"]
        ids, found = list(frame[self.id_column]), list[str]()
        if absent := self.missing(ids):
            found.append(f"{len(absent)} ids are missing, such as {absent[0]}")
        if strange := sorted(set(ids) - set(self.ids)):
            found.append(f"{len(strange)} ids are not asked for, such as {strange[0]}")
        if len(set(ids)) < len(ids):
            found.append("an id stands more than once")
        if not found and tuple(ids) != self.ids:
            found.append("the ids are in another order than the sample's")
        scores = pd.to_numeric(frame[self.score_column], errors="coerce")
        if n := int(scores.isna().sum()):
            found.append(f"{n} scores are no numbers")
        if n := int((~scores.dropna().between(0, 1)).sum()):
            found.append(f"{n} scores lie outside 0..1")
        return found

    def check(self, path: Path) -> None:
        """Refuse a submission that a competition would refuse.

        Raises:
            CohortError: every fault, in one list.

        """
        if found := self.faults(path):
            raise CohortError(f"{path}: no valid submission\n{listed(found)}")
