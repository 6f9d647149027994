"""The frame ``unseen``: how a study's arms do on another, labelled cohort, with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from ablations.averages import average
from ablations.finished import Finished, Replicates, read_replicates
from ablations.predicted import in_series
from ablations.results import Results
from ablations.unseen.asked import Asked, asked
from ablations.vault import Vault
from melssl.artifacts import PREDICTIONS, REPLICATES, SCORES
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.uncertainty import Bootstrap, bootstrap_scores
from melssl.judging import INTERVAL_METRICS, RESAMPLES
from melssl.prepared import External
from melssl.statistics.interval import Interval
from melssl.statistics.training_sets import widened
from melssl.unseen import Unseen


def unseen_frame(results: Results, several: Sequence[Unseen], vault: Vault) -> pd.DataFrame:
    """Return one row per unseen cohort, cell with an answer, and metric.

    A score is the mean of the models of all folds, each on the whole unseen cohort; its interval
    redraws that cohort's patients, the draws and the seeds. Differences are paired, and widened for
    what other training patients would have changed: the jackknife that leaves out a fold at a time,
    ``(J - 1) / J sum_j (d_j - mean d)^2`` (Tukey 1958; Efron & Tibshirani 1993, chapter 11).
    """
    rows = [row for unseen in several for row in _Scored.of(results, unseen, vault).rows()]
    return results.frame("unseen", rows)


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A study's trials with their scores on an unseen cohort in the place of their own."""

    results: Results
    unseen: Unseen
    cohort: External
    vault: Vault
    stages: dict[str, str]  # trial -> prediction

    @classmethod
    def of(cls, results: Results, unseen: Unseen, vault: Vault) -> _Scored:
        plan = results.plan
        found = {one.planned.key: one for one in asked(plan, unseen)}
        answered = {key: one for key, one in found.items() if _is_scored(one, vault)}
        prepared = plan.preparations.of(plan.study.baseline, unseen).unseen
        assert prepared is not None
        scored = [
            _scored(trial, answered[trial.planned.key], vault)
            for trial in results.finished
            if trial.planned.key in answered
        ]
        return cls(
            results=Results(plan=plan, finished=scored),
            unseen=unseen,
            cohort=prepared,
            vault=vault,
            stages={key: one.stage.key for key, one in answered.items()},
        )

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield a row per cell with an answer, and metric."""
        largest = {cell.name for cell in self.results.largest}
        for name, cell in self.results.cells.items():
            trials = self.results.by_cell[name]
            if trials:
                shared = {"cell": name, "n_trials": len(trials)} | self.results.levels(cell)
                shared |= {"n_planned": len(self.results.planned[name])} | self._cohort
                together = self._ensemble(trials) if name in largest else {}
                for metric in trials[0].scores:
                    own = self._score(trials, metric) | self._gain(name, metric)
                    yield shared | {"metric": metric} | own | together.get(metric, {})

    @cached_property
    def _cohort(self) -> dict[str, object]:
        cohort, known = self.cohort.cohort, self.cohort.cohort.labelled
        return {
            "unseen": self.unseen.name,
            "unit": cohort.patient_unit,
            "turns": self.unseen.turns,
            "unseen_digest": cohort.digest,
            "n_images": len(known),
            "n_patients": known["patient_id"].nunique(),
            "n_positives": int((known["target"] == 1).sum()),
            "n_left_out": len(self.cohort.linked),
        }

    @cached_property
    def _n_rarest(self) -> int:
        return int(self.cohort.cohort.labelled.groupby("target")["patient_id"].nunique().min())

    def _score(self, trials: Sequence[Finished], metric: str) -> dict[str, object]:
        found = self._interval(average(trials, metric), metric)
        return {"estimate": found.estimate, "low": found.low, "high": found.high}

    def _interval(self, found: Bootstrap, metric: str) -> Interval:
        inside = METRICS[metric].in_unit_range
        return found.logit_interval(self._n_rarest) if inside else found.interval

    def _gain(self, name: str, metric: str) -> dict[str, object]:
        pairs = self.results.pairs.get(name)
        if not pairs:
            return {}
        own, control = ([getattr(p, side) for p in pairs] for side in ("own", "control"))
        gain = average(own, metric).minus(average(control, metric))
        extra = jackknife([(p.own.place[0], _difference(p.own, p.control, metric)) for p in pairs])
        spread = replace(gain, replicates=widened(gain.estimate, gain.replicates, extra))
        return {"n_pairs": len(pairs)} | _ends("difference", spread.interval)

    def _ensemble(self, trials: Sequence[Finished]) -> dict[str, dict[str, object]]:
        """Return the score of the folds' mean probability, by metric; the mean over series."""
        series = [self._together(folds) for folds in in_series(trials).values()]
        weights = RESAMPLES.weights(series[0].patients)
        found = {}
        for metric in (METRICS[name] for name in INTERVAL_METRICS):
            if metric.exists_for(series[0]) and "budget_threshold" not in metric.name:
                mean = Bootstrap(
                    estimate=float(np.mean([metric(one) for one in series])),
                    replicates=np.mean(
                        [bootstrap_scores(one, metric, weights) for one in series], axis=0
                    ),
                )
                found[metric.name] = _ends("ensemble", self._interval(mean, metric.name))
        return found

    def _together(self, folds: Sequence[Finished]) -> Predictions:
        keys = [self.stages[trial.planned.key] for trial in folds]
        read = [Predictions.load(self.vault.whole("predict", key) / PREDICTIONS) for key in keys]
        mean = np.mean([one.probability for one in read], axis=0)
        prior = np.mean([one.prior for one in read], axis=0)
        return replace(read[0], probability=mean, prior=prior, thresholds={})


def jackknife(by_fold: Sequence[tuple[int, float]]) -> float:
    """Return the variance that training patients give to a mean over the models of J folds.

    Each model was trained without one of J groups of patients; ``by_fold`` holds fold and value of
    each trial.
    """
    means = pd.DataFrame(by_fold, columns=["fold", "value"]).groupby("fold")["value"].mean()
    n = len(means)
    return float((n - 1) / n * ((means - means.mean()) ** 2).sum())


def _is_scored(one: Asked, vault: Vault) -> bool:
    if not vault.has("predict", one.stage.key):
        return False
    artifacts = vault.record("predict", one.stage.key)["artifacts"]
    assert isinstance(artifacts, dict)
    return SCORES in artifacts


def _scored(trial: Finished, one: Asked, vault: Vault) -> Finished:
    key = one.stage.key
    path = vault.folder("predict", key) / REPLICATES
    return replace(
        trial,
        scores=json.loads(vault.text("predict", key, SCORES)),
        replicates=Replicates(path, read_replicates),
    )


def _difference(own: Finished, control: Finished, metric: str) -> float:
    return own.score(metric) - control.score(metric)


def _ends(name: str, found: Interval) -> dict[str, object]:
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
