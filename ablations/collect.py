"""Collect: a plan and its vault become a TrialTable; nothing is trained, nothing is dropped."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablations.design import Cell
from ablations.factors import METHOD
from ablations.origin import commit, libraries
from ablations.plan import Plan, PlannedTrial
from ablations.table import FactorInfo, LevelInfo, MetricInfo, StudyInfo, TrialTable
from ablations.vault import Vault
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.uncertainty import Bootstrap, paired_difference
from melssl.pipeline import BUDGET, CURVES, REPLICATES, SCORES
from melssl.settings import digest
from melssl.spec import NUMBERS_VERSION

MAIN_METRIC = "roc_auc"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A trial with its result."""

    planned: PlannedTrial
    scores: dict[str, float]
    budget: dict[str, int]
    replicates: dict[str, np.ndarray]
    seconds: float

    @property
    def place(self) -> tuple[int, int, int]:
        """Fold, draw and seed: what a paired trial shares."""
        trial = self.planned.trial
        return trial.fold, trial.draw, trial.seed


def collect(plan: Plan, vault: Vault) -> TrialTable:
    """Return the table of everything that the plan finds in the vault."""
    finished = read_finished(plan, vault)
    return TrialTable(
        info=_info(plan, len({f.planned.key for f in finished})),
        trials=_trials(plan, finished),
        cells=_cells(plan, finished),
        missing=_missing(plan, vault),
        curves=_curves(plan, vault),
    )


def read_finished(plan: Plan, vault: Vault) -> list[Finished]:
    """Return every planned trial that has a result."""
    return [read_trial(t, vault) for t in plan.trials if ("adapt", t.key) in plan.done]


def read_trial(planned: PlannedTrial, vault: Vault) -> Finished:
    """Return a trial's result from the vault."""
    folder = vault.folder("adapt", planned.key)
    with np.load(folder / REPLICATES, allow_pickle=False) as stored:
        replicates = {name: stored[name] for name in stored.files}
    budget = json.loads((folder / BUDGET).read_text())
    return Finished(
        planned=planned,
        scores=json.loads((folder / SCORES).read_text()),
        budget={name: budget[name] for name in ("n_images", "n_patients", "n_positives")},
        replicates=replicates,
        seconds=float(str(vault.record("adapt", planned.key)["seconds"])),
    )


def _levels(plan: Plan, cell: Cell) -> dict[str, object]:
    return {factor.name: dict(cell.levels).get(factor.name) for factor in plan.study.factors}


def _place(plan: Plan, planned: PlannedTrial) -> dict[str, object]:
    trial = planned.trial
    ids: dict[str, object] = {"trial": planned.key, "cell": trial.cell.name}
    repeats = {"fold": trial.fold, "draw": trial.draw, "seed": trial.seed}
    return ids | _levels(plan, trial.cell) | repeats


def _trials(plan: Plan, finished: Iterable[Finished]) -> pd.DataFrame:
    columns = ["trial", "cell", *(f.name for f in plan.study.factors), "fold", "draw", "seed"]
    columns += ["n_images", "n_patients", "n_positives", "metric", "score", "seconds"]
    rows = [
        _place(plan, f.planned) | f.budget | {"metric": m, "score": s, "seconds": f.seconds}
        for f in finished
        for m, s in f.scores.items()
    ]
    return pd.DataFrame(rows, columns=columns)


def _missing(plan: Plan, vault: Vault) -> pd.DataFrame:
    columns = ["trial", "cell", *(f.name for f in plan.study.factors)]
    columns += ["fold", "draw", "seed", "status", "reason"]
    rows = []
    for planned in plan.trials:
        if ("adapt", planned.key) not in plan.done:
            reasons = [vault.failure(stage.kind, stage.key) for stage in planned.stages]
            first = next((failure.reason for failure in reasons if failure), None)
            status = {"status": "failed" if first else "pending", "reason": first or "not run yet"}
            rows.append(_place(plan, planned) | status)
    return pd.DataFrame(rows, columns=columns)


def _cells(plan: Plan, finished: list[Finished]) -> pd.DataFrame:
    by_cell: dict[str, list[Finished]] = {}
    for trial in finished:
        by_cell.setdefault(trial.planned.trial.cell.name, []).append(trial)
    cells = {planned.trial.cell.name: planned.trial.cell for planned in plan.trials}
    n_planned = pd.Series([p.trial.cell.name for p in plan.trials]).value_counts()
    columns = ["cell", *(f.name for f in plan.study.factors), "metric", "estimate", "low", "high"]
    columns += ["n_trials", "n_planned", "n_images", "n_patients", "n_positives"]
    columns += ["difference", "difference_low", "difference_high", "n_pairs"]
    rows = []
    for name, cell in cells.items():
        own = by_cell.get(name, [])
        control = _control_of(cell, cells.values(), plan)
        other = by_cell.get(control.name, []) if control else []
        shared = _levels(plan, cell) | {"cell": name, "n_planned": int(n_planned[name])}
        for metric in _metrics(plan):
            rows.append(shared | {"metric": metric} | _summary(own, other, metric))
    return pd.DataFrame(rows, columns=columns)


def _summary(own: list[Finished], other: list[Finished], metric: str) -> dict[str, object]:
    row: dict[str, object] = {"n_trials": len(own)}
    if not own:
        return row
    interval = _mean(own, metric).interval
    row |= {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    row |= {name: float(np.mean([f.budget[name] for f in own])) for name in own[0].budget}
    theirs = {f.place: f for f in other}
    pairs = [(f, theirs[f.place]) for f in own if f.place in theirs]
    if pairs:
        ours, controls = (_mean(list(side), metric) for side in zip(*pairs, strict=True))
        gain = paired_difference(ours, controls).interval
        row |= {"difference": gain.estimate, "difference_low": gain.low}
        row |= {"difference_high": gain.high, "n_pairs": len(pairs)}
    return row


def _mean(trials: list[Finished], metric: str) -> Bootstrap:
    """Average trials; the replicates of a fold are made from the same redraws of its patients."""
    estimate = float(np.mean([f.scores[metric] for f in trials]))
    stacked = [f.replicates[metric] for f in trials if metric in f.replicates]
    replicates = np.stack(stacked).mean(axis=0) if stacked else np.array([np.nan])
    folds = digest(sorted(f.place[0] for f in trials))
    return Bootstrap(estimate=estimate, replicates=replicates, resampled=folds)


def _control_of(cell: Cell, cells: Iterable[Cell], plan: Plan) -> Cell | None:
    """Return the control cell whose levels agree wherever both have one."""
    control, own = plan.study.control, dict(cell.levels)
    if control is None or own[METHOD.name] == control:
        return None
    for other in cells:
        theirs = dict(other.levels)
        shared = [n for n in own if n != METHOD.name and theirs.get(n) is not None]
        if theirs[METHOD.name] == control and all(own[n] == theirs[n] for n in shared):
            return other
    return None


def _curves(plan: Plan, vault: Vault) -> pd.DataFrame:
    """Return pretraining's curves, each stage once with the cells that share it."""
    cells: dict[str, dict[str, None]] = {}
    for planned in plan.trials:
        for stage in planned.stages:
            if stage.kind == "pretrain" and ("pretrain", stage.key) in plan.done:
                cells.setdefault(stage.key, {})[planned.trial.cell.name] = None
    rows = []
    for key, names in cells.items():
        curves = json.loads((vault.folder("pretrain", key) / CURVES).read_text())
        shared = {"stage": f"pretrain/{key}", "cells": " ".join(names)}
        rows += [
            shared | {"series": series, "step": step, "value": value}
            for series, points in curves.items()
            for step, value in points
        ]
    return pd.DataFrame(rows, columns=["stage", "cells", "series", "step", "value"])


def _metrics(plan: Plan) -> list[str]:
    n_classes = len(plan.preparations.of(plan.study.baseline).cohort.classes)
    return [name for name, metric in METRICS.items() if metric.applies(n_classes)]


def _info(plan: Plan, n_finished: int) -> StudyInfo:
    study = plan.study
    prepared = plan.preparations.of(study.baseline)
    frame = prepared.cohort.labelled
    n_folds = study.baseline.folds.n_folds
    specs = [planned.trial for planned in plan.trials]
    return StudyInfo(
        name=study.name,
        question=study.question,
        factors=tuple(_factor_info(plan, index) for index in range(len(study.factors))),
        metrics=tuple(
            MetricInfo(
                name=name,
                label=METRICS[name].label,
                higher_is_better=METRICS[name].higher_is_better,
                chance=METRICS[name].chance,
            )
            for name in _metrics(plan)
        ),
        main_metric=MAIN_METRIC,
        control=study.control,
        n_planned=plan.n_planned,
        n_finished=n_finished,
        folds=tuple(range(n_folds)),
        draws=tuple(sorted({trial.draw for trial in specs})),
        seeds=tuple(sorted({trial.seed for trial in specs})),
        test_train_ratio=1 / (n_folds - 1),
        cohort={
            "name": prepared.cohort.name,
            "images": len(prepared.cohort),
            f"{prepared.cohort.patient_unit}s": int(frame["patient_id"].nunique()),
            "classes": ", ".join(prepared.cohort.classes),
            "positives": int((frame["target"] == 1).sum()),
            "patient_unit": prepared.cohort.patient_unit,
        },
        origin=_origin(plan),
    )


def _factor_info(plan: Plan, index: int) -> FactorInfo:
    factor = plan.study.factors[index]
    labels = {}
    for planned in plan.trials:
        value = dict(planned.trial.cell.levels).get(factor.name)
        if value is not None:
            method = planned.trial.spec.method.label
            labels[value] = method if factor is METHOD else factor.show(value)
    ordered = [value for value in plan.study.values(factor) if value in labels]
    levels = tuple(LevelInfo(value=value, label=labels[value]) for value in ordered)
    return FactorInfo(name=factor.name, label=factor.label, scale=factor.scale, levels=levels)


def _origin(plan: Plan) -> dict[str, str | int]:
    prepared = plan.preparations.of(plan.study.baseline)
    return {
        "study_key": plan.study.key,
        "commit": commit(),
        "numbers_version": NUMBERS_VERSION,
        "cohort": prepared.cohort.name,
        "cohort_digest": prepared.cohort.digest,
        "folds_digest": prepared.folds.digest,
        "overrides": " ".join(plan.study.overrides),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        **libraries(),
    }
