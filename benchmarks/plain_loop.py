"""The obvious way to run trials: a loop that fits, scores with scikit-learn, writes two files."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from benchmarks.measure import Lap, Runner
from melssl.data.sources.synthetic import Synthetic
from melssl.seeding import Seed

WIDTH, FRACTION, REDRAWS = 256, 0.5, 1000
RESAMPLED = (roc_auc_score, average_precision_score)


@dataclass(frozen=True, kw_only=True)
class PlainLoop:
    """A step is a trial; of the intervals it makes two where ours makes six."""

    cache: Path
    n_patients: int

    def prepare(self) -> Runner:
        """Make the same cohort and stand-in embeddings that know a little of the outcome."""
        config = Synthetic(n_patients=self.n_patients, image_px=32)
        frame = config.load(self.cache).frame
        target = frame["target"].to_numpy(np.int64)
        rng = Seed(0).child("embeddings").numpy()
        embeddings = rng.normal(size=(len(frame), WIDTH)) + 0.1 * target[:, None]

        def run(steps: int) -> Lap:
            started, fitting = time.perf_counter(), 0.0
            for draw in range(steps):
                fitting += self._trial(frame, embeddings, target, draw)
            return Lap(items=steps, seconds=time.perf_counter() - started - fitting)

        return run

    def _trial(
        self, frame: pd.DataFrame, embeddings: np.ndarray, target: np.ndarray, draw: int
    ) -> float:
        rng = np.random.default_rng(draw)
        patients = rng.permutation(frame["patient_id"].unique())
        half = len(patients) // 2
        labelled = frame["patient_id"].isin(patients[: int(half * FRACTION)]).to_numpy()
        test = frame["patient_id"].isin(patients[half:]).to_numpy()
        started = time.perf_counter()
        model = LogisticRegression(C=1 / WIDTH, max_iter=2000)
        model.fit(embeddings[labelled], target[labelled])
        score = model.predict_proba(embeddings[test])[:, 1]
        fitting = time.perf_counter() - started
        table = frame[test].assign(score=score)
        table.to_csv(self.cache / f"predictions-{draw}.csv", index=False)
        scores = _scores(target[test], score) | _intervals(table, rng)
        (self.cache / f"scores-{draw}.json").write_text(json.dumps(scores))
        return fitting


def _scores(target: np.ndarray, score: np.ndarray) -> dict[str, object]:
    metrics = (*RESAMPLED, brier_score_loss, log_loss)
    return {metric.__name__: float(metric(target, score)) for metric in metrics}


def _intervals(table: pd.DataFrame, rng: np.random.Generator) -> dict[str, object]:
    """Draw patients with replacement, take all their images, score again."""
    target, score = table["target"].to_numpy(), table["score"].to_numpy()
    rows = list(table.reset_index(drop=True).groupby("patient_id").indices.values())
    drawn = []
    for _ in range(REDRAWS):
        chosen = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        drawn.append([metric(target[chosen], score[chosen]) for metric in RESAMPLED])
    bounds = np.quantile(drawn, (0.025, 0.975), axis=0).T.tolist()
    return {f"{m.__name__}_interval": b for m, b in zip(RESAMPLED, bounds, strict=True)}
