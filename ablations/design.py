"""Study: a question as cells (levels of factors), each over folds, draws and seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field, field_validator

from ablations.factor import Factor, Value
from ablations.factors import FACTORS, LABEL_FRACTION, METHOD
from melssl.errors import SpecError, nearest
from melssl.settings import Settings, digest
from melssl.spec import RunSpec

ALWAYS = (METHOD.name, LABEL_FRACTION.name)


class Study(Settings):
    """A full crossing of factors around a baseline.

    ``levels`` names factors and their values; ``method`` and ``label_fraction`` are always among
    them. ``control`` is a method without pretext that stands beside every level.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    question: str = ""
    baseline: RunSpec = RunSpec()
    levels: dict[str, tuple[Value, ...]]
    control: str | None = "no_pretext"
    n_draws: int = Field(1, ge=1)
    n_seeds: int = Field(1, ge=1)
    overrides: tuple[str, ...] = ()

    @field_validator("levels")
    @classmethod
    def _known(cls, levels: dict[str, tuple[Value, ...]]) -> dict[str, tuple[Value, ...]]:
        for name, values in levels.items():
            if name not in FACTORS:
                raise SpecError(f"factor {name!r} is unknown; {nearest(name, FACTORS)}")
            if not values or len(set(values)) != len(values):
                raise SpecError(f"factor {name}: expected distinct values, got {list(values)}")
        return levels

    @property
    def key(self) -> str:
        """Identity of the study: its settings, less its name and where its files lie."""
        plain = self.plain()
        baseline = {k: v for k, v in self.baseline.plain().items() if k != "cohort"}
        cohort = {k: v for k, v in self.baseline.cohort.plain().items() if k != "root"}
        return digest(plain | {"name": "", "baseline": baseline, "cohort": cohort})

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The study's factors: method and label fraction first, then as declared."""
        named = [*ALWAYS, *(name for name in self.levels if name not in ALWAYS)]
        return tuple(FACTORS[name] for name in named)

    def values(self, factor: Factor) -> tuple[Value, ...]:
        """Return the levels of a factor in order, the control's method first."""
        given = self.levels.get(factor.name)
        if factor is METHOD:
            own = given or (self.baseline.method.name,)
            beside = (self.control,) if self.control and self.control not in own else ()
            return (*beside, *own)
        return given or (self.baseline.budget.fraction,)

    def cells(self) -> tuple[Cell, ...]:
        """Return all cells; levels that mean nothing in a cell are None, and such cells merge."""
        cells: dict[str, Cell] = {}
        for values in itertools.product(*(self.values(factor) for factor in self.factors)):
            cell = self._cell(values)
            cells.setdefault(cell.name, cell)
        return tuple(cells.values())

    def trials(self) -> Iterator[Trial]:
        """Yield every planned trial once; at the full budget one draw holds all patients."""
        for cell in self.cells():
            n_draws = 1 if cell.spec.budget.fraction == 1 else self.n_draws
            seeds = (None,) if "seed" in self.levels else range(self.n_seeds)
            for fold, draw, seed in itertools.product(
                range(self.baseline.folds.n_folds), range(n_draws), seeds
            ):
                budget = cell.spec.budget.replace(draw=draw)
                own = cell.spec.seed if seed is None else self.baseline.seed + seed
                spec = cell.spec.replace(fold=fold, budget=budget, seed=own)
                yield Trial(cell=cell, fold=fold, draw=draw, seed=own, spec=spec)

    def _cell(self, values: tuple[Value, ...]) -> Cell:
        spec = self.baseline
        levels: list[tuple[str, Value | None]] = []
        for factor, value in zip(self.factors, values, strict=True):
            if factor.applies(spec):
                spec = factor.change(spec, value)
                levels.append((factor.name, value))
            elif spec.method.name == self.control:
                levels.append((factor.name, None))
            else:
                raise SpecError(
                    f"factor {factor.name} means nothing to method {spec.method.name!r}; "
                    "leave one of them out of the study"
                )
        return Cell(levels=tuple(levels), spec=spec)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One level of every factor; None where a factor means nothing (a mask ratio of a control)."""

    levels: tuple[tuple[str, Value | None], ...]
    spec: RunSpec

    @property
    def name(self) -> str:
        """A readable identity: ``method=mae,label_fraction=0.1,mask_ratio=0.75``."""
        return ",".join(f"{name}={value}" for name, value in self.levels if value is not None)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A cell on one fold, draw and seed."""

    cell: Cell
    fold: int
    draw: int
    seed: int
    spec: RunSpec
