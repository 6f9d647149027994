"""TrialTable: finished trials and their study's description, the files both sides agree on."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.gallery import INDEX, Gallery, GalleryError
from melssl.errors import ArtifactError, listed
from melssl.files import publish, staged

FORMAT = 2
ORIGIN = ("study_key", "commit", "numbers_version", "cohort", "cohort_digest")
SCALES = ("category", "linear", "log")
REPEATS = ("fold", "draw", "seed")
BUDGET = ("n_images", "n_patients", "n_positives")
GAIN = ("difference", "difference_low", "difference_high", "n_pairs")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "trials": ("trial", "cell", *REPEATS, *BUDGET, "metric", "score", "seconds"),
    "cells": (
        *("cell", "metric", "estimate", "low", "high", "n_trials", "n_planned", *BUDGET),
        *GAIN,
    ),
    "missing": ("trial", "cell", *REPEATS, "status", "reason"),
    "curves": ("stage", "cells", "series", "step", "value"),
    "comparisons": (
        *("cell", "metric", "difference", "low", "high", "n_pairs", "n_planned", "n_folds"),
        *("se", "p", "p_holm", "p_corrected", "refused", "worse", "same", "better", "detectable"),
    ),
    "savings": (
        *("arm", "metric", "measure", "n_labels", "estimate", "low", "high"),
        *("censored", "low_censored", "high_censored", "n_draws"),
    ),
    "variances": (
        *("cell", "metric", "draw", "seed", "rest", "n_folds", "n_draws", "n_seeds"),
        *("patients_se", "draws_se", "seeds_se"),
    ),
    "pooled": (
        *("cell", "metric", "mean_of_folds", "pooled_raw", "pooled_rank"),
        *("delong", "delong_low", "delong_high", "n_folds"),
    ),
    "subgroups": (
        *("cell", "metric", "attribute", "group", *BUDGET, "estimate", "low", "high"),
        *GAIN,
    ),
    "reliability": ("cell", "bin", "confidence", "frequency", "n_images"),
    "encoders": (
        *("cell", "spread", "healthy_spread", "effective_rank"),
        *("camera_auc", "camera_accuracy", "n_cameras", "alerts"),
    ),
    "costs": ("cell", "images_seen", "training_seconds"),
    "sweeps": ("cell", "curve", "at", "estimate", "low", "high"),
    "ranks": (
        *("cell", "metric", "family", "mean_rank", "n_arms", "n_folds"),
        *("friedman_p", "critical_difference", "refused"),
    ),
    "pairs": (
        *("cell", "other", "metric", "difference", "low", "high", "n_pairs"),
        *("p", "p_holm", "refused"),
    ),
    "parts": ("fold", "part", "n_images", "n_patients", "n_positives"),
    "spent": ("cell", "kind", "n_stages", "seconds"),
    "unseen": (
        *("unseen", "cell", "metric", "n_trials", "n_planned", *BUDGET, "n_left_out"),
        *("estimate", "low", "high", *GAIN, "ensemble", "ensemble_low", "ensemble_high"),
        *("unit", "turns", "unseen_digest"),
    ),
    "relative": (
        *("cell", "metric", "control_score", "arm_score", "estimate", "low", "high", "n_pairs"),
    ),
    "structures": (
        *("cell", "metric", "structure", "estimate", "low", "high"),
        *("n_volumes", "n_missed", "n_invented"),
    ),
    "suggestions": ("suggestion", "state", "score", "best", "is_feasible", "images", "seconds"),
    "searched": ("suggestion", "setting", "chosen", "at", "least", "most", "importance"),
}
MAY_BE_EMPTY = tuple(COLUMNS)[4:]
OF_A_SEARCH = ("suggestions", "searched")  # tables of studies do not have these files
LATER = (  # nor do older tables
    *("sweeps", "ranks", "pairs", "parts", "spent", "unseen", "relative", "structures"),
)
WITHOUT_FACTORS = ("curves", "parts", *OF_A_SEARCH)
TEXT = (
    *("trial", "cell", "metric", "status", "reason", "stage", "cells", "series"),
    *("arm", "measure", "attribute", "group", "refused", "alerts"),
    *("state", "setting", "chosen", "least", "most"),
    *("curve", "other", "part", "kind"),
    *("unseen", "unit", "turns", "unseen_digest", "structure"),
)


def _none(name: str) -> pd.DataFrame:
    return pd.DataFrame(columns=list(COLUMNS[name]))


def budget_order(size: float) -> float:
    """Return what orders label budgets: shares, or numbers of patients, and all labels last."""
    return math.inf if size == 1 else size


class TableError(ArtifactError):
    """A study's table is missing, damaged, of another format, or contradicts itself."""


@dataclass(frozen=True, kw_only=True)
class LevelInfo:
    """One value of a factor: what is stored in the table and what is printed."""

    value: str | float | int
    label: str


@dataclass(frozen=True, kw_only=True)
class FactorInfo:
    """An axis of the study; ``scale`` is category, linear or log.

    The values of its levels are all text or all numbers.
    """

    name: str
    label: str
    scale: str
    levels: tuple[LevelInfo, ...]

    @property
    def is_text(self) -> bool:
        """Whether the values are text."""
        return all(isinstance(level.value, str) for level in self.levels)

    @property
    def values(self) -> tuple[str | float | int, ...]:
        """The stored values, in the order they are drawn."""
        return tuple(level.value for level in self.levels)


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """A score: its printed name, which direction is better, and ``chance`` where it has one."""

    name: str
    label: str
    higher_is_better: bool
    chance: float | None = None


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """What a figure must know beside the rows.

    ``control`` is the level of ``method`` that is the control, or None. ``origin`` holds at least
    ``study_key, commit, numbers_version, cohort, cohort_digest`` (see ``ORIGIN``), and library
    versions and machine. ``cohort`` is a free description: images, patients, positives, size.
    ``references`` are the methods that see no image (metadata alone): they stand beside the arms
    and are compared with nobody. ``rope`` is the largest difference that counts as none,
    ``repeats`` how often the folds were dealt anew; ``audit`` says what the leak audit found;
    ``pool`` whose images pretraining saw (train, train+test or external), ``settings`` those of the
    baseline by their paths, as text.
    """

    name: str
    question: str
    factors: tuple[FactorInfo, ...]
    metrics: tuple[MetricInfo, ...]
    main_metric: str
    control: str | None
    n_planned: int
    n_finished: int
    folds: tuple[int, ...]
    draws: tuple[int, ...]
    seeds: tuple[int, ...]
    test_train_ratio: float
    references: tuple[str, ...] = ()
    rope: float = 0.01
    repeats: int = 1
    pool: str = "train"
    audit: tuple[str, ...] = ()
    cohort: dict[str, str | int | float] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str | int] = field(default_factory=dict)

    def factor(self, name: str) -> FactorInfo:
        """Return the factor of that name.

        Raises:
            KeyError: the study has no such factor.

        """
        return {f.name: f for f in self.factors}[name]

    def has(self, *names: str) -> bool:
        """Say whether every named factor belongs to the study."""
        return set(names) <= {f.name for f in self.factors}

    def metric(self, name: str) -> MetricInfo:
        """Return the metric of that name.

        Raises:
            KeyError: the study has no such metric.

        """
        return {m.name: m for m in self.metrics}[name]


@dataclass(frozen=True, kw_only=True)
class TrialTable:
    """A study's results as frames.

    ``trials``: one row per trial and metric: ``trial, cell, <factor names>, fold, draw, seed,
    n_images, n_patients, n_positives, metric, score, seconds``.
    ``cells``: one row per cell and metric: ``cell, <factor names>, metric, estimate, low, high,
    n_trials, n_planned, n_images, n_patients, n_positives`` (means of the budgets) and, against
    the control cell with the same other levels, ``difference, difference_low, difference_high,
    n_pairs`` (empty for the control itself). Intervals are 95 % patient bootstrap.
    ``missing``: planned trials without a result: ``trial, cell, <factor names>, fold, draw, seed,
    status`` (pending or failed) and ``reason``.
    ``curves``: ``stage, cells`` (space-joined ids), ``series, step, value``: what was logged while
    training; a stage is written ``kind/key``, for example ``pretrain/3f9a0c``.

    The others may be empty, and have the columns of ``COLUMNS`` with every factor besides:
    ``comparisons``: one row per cell with a control, and metric that has intervals: the paired
    difference with interval and standard error, ``n_pairs`` of ``n_planned`` pairs over
    ``n_folds``; ``p`` (paired bootstrap) and ``p_holm`` (over all comparisons of the metric),
    ``p_corrected`` (Nadeau-Bengio) or why it is ``refused``, the chances that the arm is ``worse``,
    the ``same`` or ``better`` by more than ``rope``, and the difference ``detectable`` with 80 %.
    ``savings``: one row per arm (a cell without its label fraction), metric, measure and, where
    the measure has one, budget (``label_fraction``, ``n_labels``); a gain is positive where the arm
    is better, whatever the metric's direction. ``censored`` is 1 where ``estimate`` is a bound to
    be read "> estimate", -1 for "< estimate", else 0; likewise for ``low`` and ``high``.
    ``variances``: what draws and seeds add to a cell's score, as variances of one trial and as
    standard errors of the mean. At each arm's largest budget only: ``pooled`` (three ways to one
    score of all folds, DeLong beside them), ``subgroups`` (``n_*`` count the tested), and
    ``reliability``. ``encoders``: health of an arm's embeddings, whether they know the camera, and
    ``alerts`` of the watchdog ("collapse in 2 of 3", "none", empty where nobody watched).
    ``costs``: images that an arm's encoders passed and seconds of their training, from the first
    step on, a trunk that several lengths share counted for each of them.
    ``sweeps``: ROC, precision-recall and net benefit of each arm's largest budget, read at fixed
    places ``at``. ``ranks`` and ``pairs``: the arms of a family, which differ in method and
    pretraining only, ranked over folds, and each tested against every other, at the least and the
    largest budget. ``parts``: what a fold trains and tests on, and the whole cohort. ``spent``:
    finished stages and their seconds by arm; rows without a cell count each stage of the study
    once. ``unseen``: one row per cell and metric that has a score on another, labelled cohort (its
    name), which nothing was learned from: the mean of the models of all folds, and its difference
    to the control, with intervals over the patients of that cohort (``unit``, ``n_*``, without
    ``n_left_out`` samples of patients whom the audit links to the study's own), in ``turns`` views;
    ``ensemble``, at an arm's largest budget, is the score of the folds' mean probability.
    ``relative``: differences to the control as shares of its score. ``structures``: where masks are
    scored, each structure at each arm's largest budget, intervals over test patients alone; in how
    many of its ``n_volumes`` it was missed altogether, or found where it is not.
    Tables that were collected before these frames came are read, and lack them.

    The table of a search has two frames more and no cell. ``suggestions``: one row per suggestion
    that ended, in order: its ``state`` (complete, pruned or fail), the score that it came to, the
    ``best`` of all so far that are complete and feasible, and what it cost, whoever paid:
    ``images`` trained on, ``seconds``. ``searched``: one row per suggestion and setting: what was
    ``chosen``, where that lies (``at``, 0..1) between the ``least`` and the ``most`` on the
    setting's own scale, both empty where it is a choice, and the setting's ``importance``.

    A factor that does not apply to a cell is empty there. Where ``trials`` has a column named like
    a key of the origin (``cohort_digest``, ``numbers_version``), it must hold the origin's value.

    ``gallery`` holds pictures of encoders where they were made, ``gallery_fault`` what is wrong
    with them; they are no part of the table's files.

    ``watts`` is what whoever draws states as the power of one worker; it is in no file.

    Raises:
        TableError: frames and description contradict each other, every fault in one list.

    """

    info: StudyInfo
    trials: pd.DataFrame
    cells: pd.DataFrame
    missing: pd.DataFrame
    curves: pd.DataFrame
    comparisons: pd.DataFrame = field(default_factory=lambda: _none("comparisons"))
    savings: pd.DataFrame = field(default_factory=lambda: _none("savings"))
    variances: pd.DataFrame = field(default_factory=lambda: _none("variances"))
    pooled: pd.DataFrame = field(default_factory=lambda: _none("pooled"))
    subgroups: pd.DataFrame = field(default_factory=lambda: _none("subgroups"))
    reliability: pd.DataFrame = field(default_factory=lambda: _none("reliability"))
    encoders: pd.DataFrame = field(default_factory=lambda: _none("encoders"))
    costs: pd.DataFrame = field(default_factory=lambda: _none("costs"))
    sweeps: pd.DataFrame = field(default_factory=lambda: _none("sweeps"))
    ranks: pd.DataFrame = field(default_factory=lambda: _none("ranks"))
    pairs: pd.DataFrame = field(default_factory=lambda: _none("pairs"))
    parts: pd.DataFrame = field(default_factory=lambda: _none("parts"))
    spent: pd.DataFrame = field(default_factory=lambda: _none("spent"))
    unseen: pd.DataFrame = field(default_factory=lambda: _none("unseen"))
    relative: pd.DataFrame = field(default_factory=lambda: _none("relative"))
    structures: pd.DataFrame = field(default_factory=lambda: _none("structures"))
    suggestions: pd.DataFrame = field(default_factory=lambda: _none("suggestions"))
    searched: pd.DataFrame = field(default_factory=lambda: _none("searched"))
    watts: float | None = None

    gallery: Gallery | None = None
    gallery_fault: str = ""

    FRAMES = tuple(COLUMNS)

    def __post_init__(self) -> None:
        faults = _info_faults(self.info) + _column_faults(self)
        faults = faults or _row_faults(self)
        if faults:
            raise TableError(f"study {self.info.name!r} cannot be used:\n{listed(faults)}")

    def save(self, directory: Path) -> None:
        """Write ``study.json`` and one CSV per frame; a torn write is refused by ``load``.

        All files are staged beside their targets first; ``study.json`` holds the digests of the
        others and is put in place last.
        """
        directory.mkdir(parents=True, exist_ok=True)
        content = {f"{name}.csv": _csv(getattr(self, name)) for name in self.FRAMES}
        digests = {name: hashlib.sha256(text).hexdigest() for name, text in content.items()}
        study = {"format": FORMAT, "frames": digests, "info": dataclasses.asdict(self.info)}
        content["study.json"] = json.dumps(study, indent=1, allow_nan=False).encode() + b"\n"
        parts = {name: staged(directory / name, text) for name, text in content.items()}
        for name, part in parts.items():
            publish(part, directory / name)

    @classmethod
    def load(cls, directory: Path) -> TrialTable:
        """Read what ``save`` wrote.

        Raises:
            TableError: a file is missing, changed since, of another format, or lacks columns.

        """
        study = _study(directory / "study.json")
        info = _info(study["info"], directory / "study.json")
        frames: dict[str, Any] = {
            name: _frame(directory / f"{name}.csv", study["frames"].get(f"{name}.csv"), info)
            for name in cls.FRAMES
            if f"{name}.csv" in study["frames"] or name not in (*OF_A_SEARCH, *LATER)
        }
        return cls(info=info, **frames)

    def with_pictures(self, folder: Path) -> TrialTable:
        """Return the same table with the pictures in a folder, if there are any and they are whole.

        All else of a study can be drawn without them: what is wrong with them is a note.
        """
        if not (folder / INDEX).exists():
            return self
        try:
            return dataclasses.replace(self, gallery=Gallery.load(folder))
        except GalleryError as error:
            return dataclasses.replace(self, gallery_fault=str(error))

    def with_main_metric(self, name: str) -> TrialTable:
        """Return the same table with another metric in the place of the main one.

        Raises:
            TableError: the study has no such metric.

        """
        return dataclasses.replace(self, info=dataclasses.replace(self.info, main_metric=name))


def _info_faults(info: StudyInfo) -> list[str]:
    names = [factor.name for factor in info.factors]
    metrics = [metric.name for metric in info.metrics]
    faults = [f"factor {n!r} is missing (found: {names})" for n in _absent(names)]
    faults += [f"origin lacks {key!r}" for key in ORIGIN if key not in info.origin]
    if info.main_metric not in metrics:
        faults.append(f"main metric {info.main_metric!r} is none of {metrics}")
    for factor in info.factors:
        if factor.scale not in SCALES:
            faults.append(f"factor {factor.name!r}: scale {factor.scale!r} is none of {SCALES}")
        texts = {isinstance(value, str) for value in factor.values}
        if len(texts) != 1 or len(set(factor.values)) != len(factor.values):
            faults.append(f"factor {factor.name!r}: needs distinct levels, all text or all numbers")
    if info.control is not None and info.has("method"):
        known = info.factor("method").values
        if info.control not in known:
            faults.append(f"control {info.control!r} is no level of method {known}")
    return faults


def _absent(names: list[str]) -> list[str]:
    return [name for name in ("method", "label_fraction") if name not in names]


def _column_faults(table: TrialTable) -> list[str]:
    factors = tuple(factor.name for factor in table.info.factors)
    faults = []
    for name in table.FRAMES:
        frame: pd.DataFrame = getattr(table, name)
        if name in MAY_BE_EMPTY and frame.empty:
            continue
        wanted = COLUMNS[name] if name in WITHOUT_FACTORS else COLUMNS[name] + factors
        missing = [column for column in wanted if column not in frame]
        if missing:
            found = ", ".join(map(str, frame.columns))
            faults.append(f"{name}: columns {missing} are missing (found: {found})")
    return faults


def _row_faults(table: TrialTable) -> list[str]:
    info, faults = table.info, []
    finished = table.trials["trial"].nunique() + len(table.suggestions)
    missing = len(table.missing)
    if (finished, missing) != (info.n_finished, info.n_planned - info.n_finished):
        faults.append(
            f"expected {info.n_finished} finished of {info.n_planned} planned trials, "
            f"got {finished} finished and {missing} missing"
        )
    if table.cells.duplicated(["cell", "metric"]).any():
        faults.append("cells: a cell and metric stand in two rows")
    for name in ("trials", "cells"):
        unknown = set(getattr(table, name)["metric"]) - {metric.name for metric in info.metrics}
        faults += [f"{name}: metric {metric!r} is not described" for metric in sorted(unknown)]
    for name in ("trials", "cells", "missing"):
        faults += _level_faults(name, getattr(table, name), info)
    return faults + _mixture_faults(table.trials, info)


def _level_faults(name: str, frame: pd.DataFrame, info: StudyInfo) -> list[str]:
    faults = []
    for factor in info.factors:
        unknown = set(frame[factor.name].dropna()) - set(factor.values)
        if unknown:
            faults.append(f"{name}: {factor.name} {sorted(unknown)} is no level of the study")
    sizes = frame["label_fraction"].astype(float)
    counts = (sizes >= 2) & (sizes % 1 == 0)
    if not (sizes.between(0, 1, inclusive="right") | counts).all():
        faults.append(
            f"{name}: label_fraction must be a share, above 0 and at most 1, or a whole number of"
            " patients in every row"
        )
    return faults


def _mixture_faults(trials: pd.DataFrame, info: StudyInfo) -> list[str]:
    return [
        f"trials: {key} {sorted(map(str, set(trials[key])))} is not only {info.origin[key]!r}"
        for key in ORIGIN
        if key in trials and set(map(str, trials[key])) - {str(info.origin[key])}
    ]


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _study(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        raise TableError(f"{path} is missing. Collect first: python -m ablations collect")
    try:
        study = json.loads(path.read_text())
        version = study["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path} is damaged ({error!r}). Collect again.") from error
    if version != FORMAT:
        raise TableError(f"{path}: expected table format {FORMAT}, got {version}. Collect again.")
    return dict(study)


def _info(raw: Mapping[str, object], path: Path) -> StudyInfo:
    try:
        fields = {name: _plain(name, value) for name, value in raw.items()}
        return StudyInfo(**fields)  # type: ignore[arg-type]
    except (TypeError, KeyError) as error:
        raise TableError(f"{path}: the description of the study is damaged: {error}") from error


def _plain(name: str, value: object) -> object:
    if name == "factors" and isinstance(value, list):
        return tuple(
            FactorInfo(**{**f, "levels": tuple(LevelInfo(**x) for x in f["levels"])}) for f in value
        )
    if name == "metrics" and isinstance(value, list):
        return tuple(MetricInfo(**metric) for metric in value)
    return tuple(value) if isinstance(value, list) else value


def _frame(path: Path, digest: str | None, info: StudyInfo) -> pd.DataFrame:
    if not path.is_file():
        raise TableError(f"{path} is missing. Collect again: python -m ablations collect")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise TableError(f"{path} is not the file that study.json describes. Collect again.")
    words = dict.fromkeys((*TEXT, *(f.name for f in info.factors if f.is_text), *ORIGIN), "str")
    # A method may be called "none": only an empty field is an empty value.
    return pd.read_csv(
        io.BytesIO(content),
        dtype=words,
        keep_default_na=False,
        na_values=[""],
    )
