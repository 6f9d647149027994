"""StudyInfo: what a study was, for whoever reads its frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SCALES = ("category", "linear", "log")


def budget_order(size: float) -> float:
    """Return what orders label budgets: shares, or numbers of patients, and all labels last."""
    return math.inf if size == 1 else size


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
