"""The table of a search, which figures are drawn from: suggestions, settings, importances."""

from __future__ import annotations

import math
import platform
import warnings
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from ablations.collect import MAIN_METRIC
from ablations.factors import LABEL_FRACTION, METHOD
from ablations.origin import commit, libraries
from ablations.searching.board import IMAGES, SCORES, SECONDS, place_of
from ablations.searching.findings import Findings, best_of, is_feasible, mean_of
from ablations.table import COLUMNS, FactorInfo, LevelInfo, MetricInfo, StudyInfo, TrialTable
from melssl.evaluation.metrics import METRICS
from melssl.prepared import Prepared
from melssl.space import DIGITS, Dimension
from melssl.spec import NUMBERS_VERSION

FEWEST = 4  # complete trials of which importances are made


def search_table(findings: Findings, prepared: Prepared) -> TrialTable:
    """Return what reports draw of a search; ``prepared`` is what its suggestions learn from."""
    none: dict[str, Any] = {
        name: pd.DataFrame(columns=_columns(name)) for name in tuple(COLUMNS)[:4]
    }
    return TrialTable(
        info=_info(findings, prepared),
        suggestions=_suggestions(findings),
        searched=_searched(findings),
        **none,
    )


def importances(findings: Findings) -> dict[str, float]:
    """Return the share of each setting in what told good suggestions from others (PED-ANOVA).

    Nothing where fewer than four were judged to the end, or all of them alike.
    """
    complete = [t for t in findings.trials if t.state == TrialState.COMPLETE]
    if len(complete) < FEWEST or len({mean_of(trial) for trial in complete}) == 1:
        return {}
    study = optuna.create_study(directions=findings.search.directions)
    study.add_trials(complete)
    sign = -1 if METRICS[MAIN_METRIC].higher_is_better else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of being experimental, and of what it takes for better
        # less is better to it, whatever the study's direction is
        shares = optuna.importance.get_param_importances(study, target=lambda t: sign * mean_of(t))
    return {name: float(share) for name, share in shares.items() if math.isfinite(share)}


def _suggestions(findings: Findings) -> pd.DataFrame:
    rows = []
    for index, trial in enumerate(findings.trials):
        best = best_of(findings.trials[: index + 1])
        rows.append(
            {
                "suggestion": place_of(trial),
                "state": trial.state.name.lower(),
                "score": mean_of(trial) if trial.user_attrs.get(SCORES) else math.nan,
                "best": mean_of(best) if best else math.nan,
                "is_feasible": int(is_feasible(trial)),
                "images": trial.user_attrs.get(IMAGES, math.nan),
                "seconds": trial.user_attrs.get(SECONDS, math.nan),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS["suggestions"]))


def _searched(findings: Findings) -> pd.DataFrame:
    shares = importances(findings)
    rows = [
        {
            "suggestion": place_of(trial),
            "setting": dimension.name,
            "chosen": _text(dimension, trial),
            "at": place_on(dimension, trial.params[dimension.name]),
            "least": None if dimension.choices else f"{dimension.low:.{DIGITS}g}",
            "most": None if dimension.choices else f"{dimension.high:.{DIGITS}g}",
            "importance": shares.get(dimension.name, math.nan),
        }
        for dimension in findings.search.space
        for trial in findings.trials
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS["searched"]))


def place_on(dimension: Dimension, value: str | float) -> float:
    """Return where a value lies on the dimension's own scale, from 0 to 1."""
    if isinstance(value, str):
        return dimension.choices.index(value) / (len(dimension.choices) - 1)
    low, high = dimension.low, dimension.high
    if dimension.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _text(dimension: Dimension, trial: FrozenTrial) -> str:
    return dimension.override(trial.params[dimension.name]).partition("=")[2]


def _columns(name: str) -> list[str]:
    factors = [] if name == "curves" else [METHOD.name, LABEL_FRACTION.name]
    return [*COLUMNS[name], *factors]


def _info(findings: Findings, prepared: Prepared) -> StudyInfo:
    search, metric = findings.search, METRICS[MAIN_METRIC]
    spec, cohort = search.baseline, prepared.cohort
    fraction = (search.within.budget or spec.budget).fraction
    n_outer, fold = search.within.folds.n_folds, search.within.fold
    return StudyInfo(
        name=search.name,
        question=f"Which settings suit a budget of {100 * fraction:.4g} %? Chosen by inner folds of"
        f" outer fold {fold} of {n_outer}, whose test patients were seen by nothing.",
        factors=(
            _one_level(METHOD.name, METHOD.label, spec.method.name, spec.method.label),
            _one_level(LABEL_FRACTION.name, LABEL_FRACTION.label, fraction, f"{fraction:.0%}"),
        ),
        metrics=(
            MetricInfo(
                name=MAIN_METRIC,
                label=metric.label,
                higher_is_better=metric.higher_is_better,
                chance=metric.chance,
            ),
        ),
        main_metric=MAIN_METRIC,
        control=None,
        n_planned=len(findings.trials),
        n_finished=len(findings.trials),
        folds=tuple(range(search.n_folds)),
        draws=tuple(range(search.n_draws)),
        seeds=tuple(range(spec.seed, spec.seed + search.n_seeds)),
        test_train_ratio=1 / (search.n_folds - 1),
        pool=spec.pool,
        cohort={"name": cohort.name, "patient_unit": cohort.patient_unit, "images": len(cohort)},
        origin=_origin(findings, prepared),
    )


def _one_level(name: str, label: str, value: str | float, text: str) -> FactorInfo:
    level = LevelInfo(value=value, label=text)
    return FactorInfo(name=name, label=label, scale="category", levels=(level,))


def _origin(findings: Findings, prepared: Prepared) -> dict[str, str | int]:
    return {
        "study_key": findings.key,
        "commit": commit(),
        "numbers_version": NUMBERS_VERSION,
        "cohort": prepared.cohort.name,
        "cohort_digest": prepared.cohort.digest,
        "python": platform.python_version(),
        **libraries(),
    }
