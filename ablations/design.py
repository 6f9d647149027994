"""Study: a question as cells (levels of factors), each over folds, draws and seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field, field_validator

from ablations.factor import Factor, Value
from ablations.factors import LABEL_FRACTION, METHOD, factor_named
from ablations.paths import has
from melssl.errors import SpecError
from melssl.runs import Run
from melssl.settings import Settings, digest, with_overrides
from melssl.spec import RunSpec

Place = tuple[int, int, int]
ALWAYS = (METHOD.name, LABEL_FRACTION.name)


class Study(Settings):
    """A full crossing of factors around a baseline.

    ``levels`` names factors, or settings by their paths, and their values; ``method`` and
    ``label_fraction`` are always among them. ``control`` is a method without pretext that stands
    beside every level; ``references`` are methods that see no image (metadata alone), beside every
    label budget. The folds are dealt anew ``n_repeats`` times.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    question: str = ""
    baseline: RunSpec = RunSpec()
    levels: dict[str, tuple[Value, ...]]
    control: str | None = "no_pretext"
    references: tuple[str, ...] = ()
    n_repeats: int = Field(1, ge=1)
    n_draws: int = Field(1, ge=1)
    n_seeds: int = Field(1, ge=1)
    overrides: tuple[str, ...] = ()

    @field_validator("levels")
    @classmethod
    def _known(cls, levels: dict[str, tuple[Value, ...]]) -> dict[str, tuple[Value, ...]]:
        for name, values in levels.items():
            factor_named(name)
            if not values or len(set(values)) != len(values):
                raise SpecError(f"factor {name}: expected distinct values, got {list(values)}")
        sizes = [float(size) for size in levels.get(LABEL_FRACTION.name, ())]
        if any(size > 1 for size in sizes) and any(size < 1 for size in sizes):
            raise SpecError(
                f"label budgets {sizes}: expected shares, or numbers of patients and 100% beside"
                " them; which of the two is larger differs from fold to fold: use one kind"
            )
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
        return tuple(map(factor_named, named))

    def values(self, factor: Factor) -> tuple[Value, ...]:
        """Return the levels of a factor in order, the control's method first."""
        given = self.levels.get(factor.name)
        if factor is METHOD:
            own = given or (self.baseline.method.name,)
            beside = (self.control,) if self.control and self.control not in own else ()
            return (*beside, *own, *(name for name in self.references if name not in own))
        return given or (self.baseline.budget.size,)

    def cells(self) -> tuple[Cell, ...]:
        """Return all cells; levels that mean nothing in a cell are None, and such cells merge."""
        cells: dict[str, Cell] = {}
        for values in itertools.product(*(self.values(factor) for factor in self.factors)):
            cell = self._cell(values)
            cells.setdefault(cell.name, cell)
        return tuple(cells.values())

    def trials(self, cells: Iterable[Cell] | None = None) -> Iterator[Trial]:
        """Yield every planned trial once, or those of some cells.

        At the full budget one draw holds all patients.
        """
        folds = self.baseline.folds
        deals = [folds.replace(seed=folds.seed + repeat) for repeat in range(self.n_repeats)]
        for cell in self.cells() if cells is None else cells:
            bases = [cell.spec.replace(folds=deal) for deal in deals]
            dealt = list(enumerate(itertools.product(bases, range(folds.n_folds))))
            n_draws = 1 if cell.spec.budget.is_whole else self.n_draws
            for (place, (base, fold)), draw, seed in itertools.product(
                dealt, range(n_draws), self._seeds(cell)
            ):
                run = Run(base=base, fold=fold, draw=draw, seed=seed)
                yield Trial(cell=cell, fold=place, run=run)

    def compared(self, cells: Iterable[Cell]) -> dict[str, str | None]:
        """Return the names of the cells that are compared with the control, each with its control.

        None where no cell of the control has the same other levels; what sees no image is compared
        with nobody.
        """
        cells = list(cells)
        controls = [c for c in cells if self.control and c.method == self.control]
        arms = [c for c in cells if controls and c.method != self.control]
        return {
            arm.name: next((c.name for c in controls if arm.agrees_with(c)), None)
            for arm in arms
            if arm.spec.method_class.sees == "images"
        }

    def _seeds(self, cell: Cell) -> Sequence[int]:
        if "seed" in self.levels:
            return (cell.spec.seed,)
        # what sees no image has no weights to initialise: one seed is all
        n_seeds = self.n_seeds if cell.spec.method_class.sees == "images" else 1
        return range(self.baseline.seed, self.baseline.seed + n_seeds)

    def _cell(self, values: tuple[Value, ...]) -> Cell:
        spec = self.baseline
        levels: list[tuple[str, Value | None]] = []
        for factor, value in zip(self.factors, values, strict=True):
            if factor.applies(spec):
                spec = self._overridden(factor.change(spec, value), spec.protocol.name)
                levels.append((factor.name, value))
            elif spec.method.name == self.control or spec.method_class.sees == "metadata":
                levels.append((factor.name, None))
            else:
                raise SpecError(
                    f"factor {factor.name} means nothing to method {spec.method.name!r}; "
                    "leave one of them out of the study"
                )
        return Cell(levels=tuple(levels), spec=spec)

    def _overridden(self, spec: RunSpec, protocol: str) -> RunSpec:
        """Return a run whose protocol is another now, with the overrides that it also knows.

        ``--set protocol.training.epochs=12`` is said of the baseline's protocol; if the others kept
        their defaults, they would be judged by another schedule. Methods and backbones are told
        apart by their settings, and keep their own.
        """
        if spec.protocol.name == protocol:
            return spec

        def is_shared(path: str) -> bool:
            return path.startswith("protocol.") and path != "protocol.name" and has(spec, path)

        said = [text for text in self.overrides if is_shared(text.partition("=")[0].strip())]
        return with_overrides(spec, said)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One level of every factor; None where a factor means nothing (a mask ratio of a control)."""

    levels: tuple[tuple[str, Value | None], ...]
    spec: RunSpec

    @property
    def name(self) -> str:
        """A readable identity: ``method=mae,label_fraction=0.1,mask_ratio=0.75``."""
        return ",".join(f"{name}={value}" for name, value in self.levels if value is not None)

    @property
    def method(self) -> Value | None:
        """The level of the method."""
        return dict(self.levels)[METHOD.name]

    def agrees_with(self, control: Cell) -> bool:
        """Say whether the levels are the same wherever the control has one, but for the method."""
        theirs = dict(control.levels)
        others = (level for level in self.levels if level[0] != METHOD.name)
        return all(theirs.get(name) in (None, value) for name, value in others)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A cell on one fold, draw and seed; ``fold`` counts on over the repeats of the folds."""

    cell: Cell
    fold: int
    run: Run

    @property
    def draw(self) -> int:
        """Which draw of the label budget."""
        return self.run.draw

    @property
    def seed(self) -> int:
        """The training's seed."""
        return self.run.seed

    @property
    def place(self) -> Place:
        """Fold, draw and seed: what a paired trial shares."""
        return self.fold, self.run.draw, self.run.seed

    @property
    def spec(self) -> RunSpec:
        """Everything that decides the trial's numbers."""
        return self.run.spec
