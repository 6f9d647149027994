"""Run: one of the many runs that differ in fold, draw and seed, and in nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from melssl.spec import RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A spec in four words: that of a whole cell, ``base``, and what is this run's own.

    A study may have a hundred thousand runs; a whole spec of each would take gigabytes and minutes.
    """

    base: RunSpec
    fold: int
    draw: int
    seed: int

    @classmethod
    def of(cls, spec: RunSpec) -> Self:
        """Return a spec as the only run of its kind."""
        return cls(base=spec, fold=spec.fold, draw=spec.budget.draw, seed=spec.seed)

    @property
    def spec(self) -> RunSpec:
        """Everything that decides the run's numbers, made when it is asked for."""
        budget = self.base.budget
        if (self.base.fold, budget.draw, self.base.seed) == (self.fold, self.draw, self.seed):
            return self.base
        own = budget.replace(draw=self.draw)
        return self.base.replace(fold=self.fold, budget=own, seed=self.seed)
