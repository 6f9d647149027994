"""Made tables that look like those of a real study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import pytest

from ablations.table import FactorInfo, LevelInfo, MetricInfo, StudyInfo, TrialTable

METHODS = {
    "no_pretext": "no pretraining",
    "simclr": "SimCLR",
    "mae": "MAE",
    "dino": "DINO",
    "byol": "BYOL",
    "rotation": "rotation prediction",
    "vicreg": "VICReg",
}
FRACTIONS = (0.01, 0.05, 0.1, 0.25, 1.0)
FACTORS = {
    "mask_ratio": ("mask ratio", "linear", {0.25: "25 %", 0.5: "50 %", 0.75: "75 %", 0.9: "90 %"}),
    "pretrain_epochs": ("pretraining epochs", "log", {10: "10", 50: "50", 200: "200", 800: "800"}),
    "protocol": (
        "protocol",
        "category",
        {"linear_probe": "linear probe", "fine_tune": "fine-tuning", "knn": "kNN"},
    ),
    "backbone": (
        "backbone",
        "category",
        {name: name for name in ("resnet18", "resnet50", "vit_tiny_patch16", "convnext_nano")},
    ),
}
# The control was never pretrained, so these do not apply to it.
OF_PRETRAINING = ("mask_ratio", "pretrain_epochs")


def build_table(
    methods: Sequence[str] = ("no_pretext", "simclr"),
    fractions: Sequence[float] = FRACTIONS,
    factors: Mapping[str, int] | None = None,
    folds: int = 3,
    draws: int = 2,
    seeds: int = 1,
    lost_cells: Sequence[int] = (),
    lost_trials: Sequence[int] = (),
    higher_is_better: bool = True,
    with_intervals: bool = True,
    control: str | None = "no_pretext",
    steps: int = 60,
) -> TrialTable:
    """Return a table; ``factors`` says how many levels of each further factor are crossed."""
    rng = np.random.default_rng(7)
    axes = [
        FactorInfo(
            name="method",
            label="method",
            scale="category",
            levels=tuple(LevelInfo(value=m, label=METHODS[m]) for m in methods),
        ),
        FactorInfo(
            name="label_fraction",
            label="labels",
            scale="log",
            levels=tuple(LevelInfo(value=f, label=f"{f:g}") for f in fractions),
        ),
    ]
    for name, count in (factors or {}).items():
        label, scale, levels = FACTORS[name]
        chosen = list(levels.items())[:count]
        made = tuple(LevelInfo(value=value, label=text) for value, text in chosen)
        axes.append(FactorInfo(name=name, label=label, scale=scale, levels=made))
    cells = pd.DataFrame(_design(axes, control), columns=[axis.name for axis in axes])
    cells.insert(0, "cell", [f"c{i:03d}" for i in range(len(cells))])
    trials = _trials(cells, axes, (folds, draws, seeds), rng)
    lost = trials["cell"].isin([f"c{i:03d}" for i in lost_cells])
    lost |= trials["trial"].isin([f"t{i:04d}" for i in lost_trials])
    missing = trials.loc[lost, ["trial", *cells.columns, "fold", "draw", "seed"]]
    missing = missing.assign(status="failed", reason="NotFiniteError: loss is NaN at step_3 (50 %)")
    n_planned, done = len(trials), trials[~lost]
    metrics = (
        MetricInfo(name="auc", label="ROC AUC", higher_is_better=higher_is_better, chance=0.5),
        MetricInfo(name="brier", label="Brier score", higher_is_better=False),
    )
    brier = done.assign(metric="brier", score=0.2 - done["score"] / 10)
    both = pd.concat([done.assign(metric="auc"), brier])
    info = StudyInfo(
        name="label_fraction",
        question="how many labels does pretraining save?",
        factors=tuple(axes),
        metrics=metrics,
        main_metric="auc",
        control=control,
        n_planned=n_planned,
        n_finished=len(done),
        folds=tuple(range(folds)),
        draws=tuple(range(draws)),
        seeds=tuple(range(seeds)),
        test_train_ratio=1 / max(folds - 1, 1),
        cohort={"images": 10015, "patient_unit": "lesion"},
        origin={
            "study_key": "3f9a0c77d1e2b4a6",
            "commit": "9e107d9d372bb6826bd81d3542a419d6",
            "numbers_version": 1,
            "cohort": "ham10000",
            "cohort_digest": "a5b0c1d2e3f4a5b6c7d8",
        },
    )
    return TrialTable(
        info=info,
        trials=both.reset_index(drop=True),
        cells=_scored(both, trials, cells, control, with_intervals),
        missing=missing.reset_index(drop=True),
        curves=_curves(cells, control, folds, steps, rng),
    )


def _design(axes: Sequence[FactorInfo], control: str | None) -> Iterator[tuple[object, ...]]:
    seen = set()
    for values in product(*(axis.values for axis in axes)):
        names = [axis.name for axis in axes]
        bare = values[0] == control
        row = tuple(
            None if bare and name in OF_PRETRAINING else value
            for name, value in zip(names, values, strict=True)
        )
        if row not in seen:
            seen.add(row)
            yield row


def _trials(
    cells: pd.DataFrame,
    axes: Sequence[FactorInfo],
    repeats: tuple[int, int, int],
    rng: np.random.Generator,
) -> pd.DataFrame:
    order = list(axes[0].values)
    rows = []
    for cell in cells.to_dict("records"):
        images = round(6676 * cell["label_fraction"])
        rank = order.index(cell["method"])
        gain = 0.02 * rank * (1 - cell["label_fraction"]) - 0.004 * rank
        shape = sum(
            -0.03 * (list(axis.values).index(cell[axis.name]) - 1.6) ** 2 / 2
            for axis in axes[2:]
            if cell[axis.name] is not None and cell[axis.name] == cell[axis.name]
        )
        level = 0.66 + 0.045 * np.log(100 * cell["label_fraction"] + 1) + gain + shape
        for fold, draw, seed in product(*map(range, repeats)):
            score = level + 0.012 * (fold - 1) + rng.normal(0, 0.01)
            row = {"trial": f"t{len(rows):04d}", **cell, "fold": fold, "draw": draw, "seed": seed}
            row |= {"n_images": images + fold, "n_patients": images * 3 // 4}
            rows.append({**row, "n_positives": images // 9, "score": score, "seconds": 3.5})
    return pd.DataFrame(rows)


def _scored(
    both: pd.DataFrame,
    planned: pd.DataFrame,
    cells: pd.DataFrame,
    control: str | None,
    with_intervals: bool,
) -> pd.DataFrame:
    budget = ["n_images", "n_patients", "n_positives"]
    keys = ["cell", "metric"]
    means = both.groupby(keys)[["score", *budget]].mean().reset_index()
    means = means.rename(columns={"score": "estimate"})
    spread = 0.02 if with_intervals else np.nan
    means["low"], means["high"] = means["estimate"] - spread, means["estimate"] + spread
    means["n_trials"] = both.groupby(keys).size().to_numpy()
    means["n_planned"] = means["cell"].map(planned.groupby("cell").size())
    rows = means.merge(cells, on="cell")
    bare = rows[rows["method"] == control]
    base = bare.set_index(["label_fraction", "metric"])["estimate"]
    base = base[~base.index.duplicated()]
    index = pd.MultiIndex.from_frame(rows[["label_fraction", "metric"]])
    rows["difference"] = rows["estimate"] - base.reindex(index).to_numpy()
    rows.loc[rows["method"] == control, "difference"] = np.nan
    rows["difference_low"] = rows["difference"] - spread / 2
    rows["difference_high"] = rows["difference"] + spread / 2
    rows["n_pairs"] = rows["n_trials"].where(rows["difference"].notna())
    return rows


def _curves(
    cells: pd.DataFrame, control: str | None, folds: int, steps: int, rng: np.random.Generator
) -> pd.DataFrame:
    apart = [name for name in ("method", *OF_PRETRAINING, "backbone") if name in cells]
    rows = []
    groups = cells[cells["method"] != control].groupby(apart, sort=False, dropna=False)
    for number, (_, group) in enumerate(groups):
        for fold in range(folds):
            step = np.arange(steps) * 10
            loss = 1 + 3 * np.exp(-step / 150) + 0.2 * number + rng.normal(0, 0.05, steps)
            stage = {"stage": f"pretrain/{number:02d}{fold}", "cells": " ".join(group["cell"])}
            rows.append(pd.DataFrame({**stage, "series": "loss", "step": step, "value": loss}))
    columns = ["stage", "cells", "series", "step", "value"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


@pytest.fixture(scope="session")
def make_table() -> Callable[..., TrialTable]:
    """Return ``build_table``."""
    return build_table
