"""Collect: a plan and its vault become a TrialTable; nothing is trained, nothing is dropped."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from ablations.cells import cells_frame, variances_frame
from ablations.comparisons import comparisons_frame
from ablations.encoders import costs_frame, encoders_frame
from ablations.factors import LABEL_FRACTION, METHOD
from ablations.largest import pooled_frame, reliability_frame
from ablations.origin import commit, libraries
from ablations.parts import parts_frame
from ablations.plan import Plan, PlannedTrial
from ablations.predicted import Predicted
from ablations.ranks import pairs_frame, ranks_frame
from ablations.relative import relative_frame
from ablations.results import Results, read_results
from ablations.savings import savings_frame
from ablations.spent import spent_frame
from ablations.structures import structures_frame
from ablations.subgroups import subgroups_frame
from ablations.sweeps import sweeps_frame
from ablations.table import FactorInfo, LevelInfo, MetricInfo, StudyInfo, TrialTable
from ablations.unseen.frame import unseen_frame
from ablations.vault import Vault
from melssl.artifacts import CURVES
from melssl.evaluation.metrics import METRICS
from melssl.settings import Json
from melssl.spec import NUMBERS_VERSION
from melssl.unseen import Unseen

MAIN_METRIC = "roc_auc"


def collect(plan: Plan, vault: Vault, unseen: Sequence[Unseen] = ()) -> TrialTable:
    """Return the table of everything that the plan finds in the vault, also of unseen cohorts.

    Raises:
        ArtifactError: an arm and its control differ in more than method and pretraining.

    """
    results, predicted = read_results(plan, vault), Predicted(vault)
    info = _info(results)
    of_outcome = _of_masks if results.of_masks else _of_classes
    return TrialTable(
        info=info,
        trials=_trials(results),
        cells=cells_frame(results),
        missing=_missing(results, vault),
        curves=_curves(plan, vault),
        comparisons=comparisons_frame(results, info.rope),
        savings=savings_frame(results),
        variances=variances_frame(results),
        encoders=encoders_frame(results, vault),
        costs=costs_frame(results, vault),
        ranks=ranks_frame(results),
        pairs=pairs_frame(results),
        parts=parts_frame(results),
        spent=spent_frame(results, vault),
        unseen=unseen_frame(results, unseen, vault),
        relative=relative_frame(results),
        **of_outcome(results, predicted),
    )


def _of_classes(results: Results, predicted: Predicted) -> dict[str, Any]:
    """Return the frames that rest on probabilities of classes."""
    return {
        "pooled": pooled_frame(results, predicted),
        "subgroups": subgroups_frame(results, predicted),
        "reliability": reliability_frame(results, predicted),
        "sweeps": sweeps_frame(results, predicted),
    }


def _of_masks(results: Results, predicted: Predicted) -> dict[str, Any]:
    """Return the frames that rest on masks."""
    return {"structures": structures_frame(results, predicted)}


def _place(results: Results, planned: PlannedTrial) -> dict[str, object]:
    trial = planned.trial
    ids: dict[str, object] = {"trial": planned.key, "cell": trial.cell.name}
    repeats = {"fold": trial.fold, "draw": trial.draw, "seed": trial.seed}
    return ids | results.levels(trial.cell) | repeats


def _trials(results: Results) -> pd.DataFrame:
    rows = [
        _place(results, f.planned) | f.budget | {"metric": m, "score": s, "seconds": f.seconds}
        for f in results.finished
        for m, s in f.scores.items()
    ]
    return results.frame("trials", rows)


def _missing(results: Results, vault: Vault) -> pd.DataFrame:
    rows = []
    for planned in results.plan.trials:
        if ("adapt", planned.key) not in results.plan.done:
            reasons = [vault.failure(stage.kind, stage.key) for stage in planned.stages]
            first = next((failure.reason for failure in reasons if failure), None)
            status = {"status": "failed" if first else "pending", "reason": first or "not run yet"}
            rows.append(_place(results, planned) | status)
    return results.frame("missing", rows)


def _curves(plan: Plan, vault: Vault) -> pd.DataFrame:
    """Return pretraining's curves, each stage once with the cells that share it."""
    cells: dict[str, dict[str, None]] = {}
    for planned in plan.trials:
        for stage in planned.stages:
            if stage.kind == "pretrain" and ("pretrain", stage.key) in plan.done:
                cells.setdefault(stage.key, {})[planned.trial.cell.name] = None
    rows = []
    for key, names in cells.items():
        curves = json.loads(vault.text("pretrain", key, CURVES))
        shared = {"stage": f"pretrain/{key}", "cells": " ".join(names)}
        rows += [
            shared | {"series": series, "step": step, "value": value}
            for series, points in curves.items()
            for step, value in points
        ]
    return pd.DataFrame(rows, columns=["stage", "cells", "series", "step", "value"])


def _info(results: Results) -> StudyInfo:
    plan, study = results.plan, results.plan.study
    prepared = results.prepared
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
            for name in results.metrics
        ),
        main_metric=results.main_metric,
        control=study.control,
        n_planned=plan.n_planned,
        n_finished=plan.n_finished,
        folds=tuple(range(n_folds * study.n_repeats)),
        draws=tuple(sorted({trial.draw for trial in specs})),
        seeds=tuple(sorted({trial.seed for trial in specs})),
        test_train_ratio=results.test_train_ratio,
        references=results.references,
        repeats=study.n_repeats,
        pool=study.baseline.pool,
        audit=tuple(prepared.audit.lines()) if prepared.audit else (),
        cohort={
            "name": prepared.cohort.name,
            "images": len(prepared.cohort),
            f"{prepared.cohort.patient_unit}s": int(frame["patient_id"].nunique()),
            "patient_unit": prepared.cohort.patient_unit,
            **_outcome(results),
        },
        settings=dict(_flat(study.baseline.plain())),
        origin=_origin(plan),
    )


def _outcome(results: Results) -> dict[str, str | int | float]:
    """Return what is known of each sample: its class, the structures of its mask, its medium."""
    cohort = results.prepared.cohort
    known: dict[str, str | int | float] = {"classes": ", ".join(cohort.classes)}
    if len(cohort.classes) > 1:
        known["positives"] = int((cohort.labelled["target"] == 1).sum())
    if cohort.structures:
        known["structures"] = ", ".join(cohort.structures)
    if cohort.medium.kind != "image":
        known["sample_unit"] = cohort.medium.kind
    return known


def _flat(settings: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting by its path; where files lie is nobody's setting."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            if (path, name) != ("cohort", "root"):
                yield from _flat(value, f"{path}.{name}" if path else name)
    else:
        yield path, "none" if settings is None else str(settings)


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
    label = factor.label
    if factor is LABEL_FRACTION:
        unit = plan.preparations.of(plan.study.baseline).cohort.patient_unit
        label = label.replace("patients", f"{unit}s")
    return FactorInfo(name=factor.name, label=label, scale=factor.scale, levels=levels)


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
