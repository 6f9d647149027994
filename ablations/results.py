"""Results: a plan's finished trials by cell, and what each cell is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import pandas as pd

from ablations.averages import Summary, summarised
from ablations.design import Cell, Place
from ablations.factors import LABEL_FRACTION
from ablations.finished import Finished, Pair, read_replicates, read_trial
from ablations.plan import Plan
from ablations.table import COLUMNS, budget_order
from ablations.vault import Vault
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.uncertainty import Bootstrap
from melssl.judging import INTERVAL_METRICS
from melssl.prepared import Prepared


@dataclass(frozen=True, kw_only=True)
class Results:
    """The finished trials of a plan. ``pairs`` of a cell are checked to be fair."""

    plan: Plan
    finished: Sequence[Finished]

    @cached_property
    def prepared(self) -> Prepared:
        """Cohort and folds of the study's baseline."""
        return self.plan.preparations.of(self.plan.study.baseline)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the outcome, in the order of ``METRICS``."""
        cohort = self.prepared.cohort
        n_classes = None if self.of_masks else len(cohort.classes)
        cameras, patients = cohort.cameras is not None, cohort.medium.per_patient
        return tuple(
            name
            for name, metric in METRICS.items()
            if metric.applies(n_classes, cameras=cameras, patients=patients)
        )

    @property
    def of_masks(self) -> bool:
        """Whether the study's protocols draw masks, and do not name classes."""
        return self.plan.study.baseline.protocol.judges == "masks"

    @property
    def main_metric(self) -> str:
        """The metric that exhibits show, if they are not asked for another."""
        return "dice" if self.of_masks else "roc_auc"

    @cached_property
    def interval_metrics(self) -> tuple[str, ...]:
        """The metrics whose replicates are stored."""
        return tuple(name for name in self.metrics if name in INTERVAL_METRICS)

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Every planned cell by name, in the order of the plan."""
        return {planned.trial.cell.name: planned.trial.cell for planned in self.plan.trials}

    @cached_property
    def planned(self) -> dict[str, set[Place]]:
        """The planned fold, draw and seed of every trial, by cell."""
        places: dict[str, set[Place]] = {name: set() for name in self.cells}
        for trial in (planned.trial for planned in self.plan.trials):
            places[trial.cell.name].add((trial.fold, trial.draw, trial.seed))
        return places

    @cached_property
    def by_cell(self) -> dict[str, list[Finished]]:
        """The finished trials of every cell, none where it has none."""
        trials: dict[str, list[Finished]] = {name: [] for name in self.cells}
        for trial in self.finished:
            trials[trial.planned.trial.cell.name].append(trial)
        return trials

    @cached_property
    def references(self) -> tuple[str, ...]:
        """The methods that see no image: compared with nobody."""
        blind = (c.spec.method.name for c in self.cells.values() if _is_reference(c))
        return tuple(dict.fromkeys(blind))

    @cached_property
    def compared(self) -> dict[str, str | None]:
        """The cells that are compared with the control, each with the control's cell.

        None where no cell of the control has the same other levels.
        """
        return self.plan.study.compared(self.cells.values())

    @cached_property
    def pairs(self) -> dict[str, list[Pair]]:
        """The paired trials of every compared cell.

        Raises:
            ArtifactError: two paired trials differ in more than method and pretraining.

        """
        return {name: self._pairs(name, control) for name, control in self.compared.items()}

    @cached_property
    def arms(self) -> dict[str, list[Cell]]:
        """Cells that differ in their label fraction only, by their name without it, ascending."""
        arms: dict[str, list[Cell]] = {}
        for cell in self.cells.values():
            arms.setdefault(arm_name(cell), []).append(cell)
        return {name: sorted(cells, key=size_order) for name, cells in arms.items()}

    @cached_property
    def largest(self) -> list[Cell]:
        """The cell of every arm with its largest planned label budget."""
        return [cells[-1] for cells in self.arms.values()]

    @cached_property
    def test_train_ratio(self) -> float:
        """Test patients per training patient of a fold."""
        return 1 / (self.plan.study.baseline.folds.n_folds - 1)

    @cached_property
    def n_rarest(self) -> int:
        """Number of patients of the class that fewest have; of masks, of all patients."""
        labelled = self.prepared.cohort.labelled
        if self.of_masks:
            return int(labelled["patient_id"].nunique())
        return int(labelled.groupby("target")["patient_id"].nunique().min())

    def summary(self, name: str, metric: str) -> Summary:
        """Return what the trials of a cell come to; replicates are read once for all metrics."""
        if name not in self._summaries:
            trials, pairs = self.by_cell[name], self.pairs.get(name, [])
            share = self.share(self.cells[name])
            self._summaries[name] = {
                metric: summarised(trials, pairs, metric, share, self.test_train_ratio)
                for metric in self.metrics
            }
        return self._summaries[name][metric]

    @cached_property
    def _summaries(self) -> dict[str, dict[str, Summary]]:
        return {}

    def share(self, cell: Cell) -> float:
        """Return the share of a fold's training patients that have labels in a cell."""
        budget = cell.spec.budget
        if budget.count is None:
            return budget.fraction
        n_patients = self.prepared.cohort.labelled["patient_id"].nunique()
        return min(1.0, budget.count * (1 + self.test_train_ratio) / n_patients)

    def gain(self, name: str, metric: str) -> Bootstrap:
        """Return the difference of a compared cell to its control, over their paired trials."""
        gain = self.summary(name, metric).gain
        assert gain is not None, f"{name} has no paired trial"
        return gain

    def control(self, name: str, metric: str) -> Bootstrap:
        """Return the mean score of the control's trials that a compared cell is paired with."""
        control = self.summary(name, metric).control
        assert control is not None, f"{name} has no paired trial"
        return control

    def levels(self, cell: Cell) -> dict[str, object]:
        """Return the cell's level of every factor of the study; None where one means nothing."""
        own = dict(cell.levels)
        return {factor.name: own.get(factor.name) for factor in self.plan.study.factors}

    def frame(self, name: str, rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
        """Return the frame of a table: its columns, and the factors behind those that identify."""
        ids = [column for column in COLUMNS[name] if column in ("trial", "cell", "arm")]
        rest = [column for column in COLUMNS[name] if column not in ids]
        factors = [factor.name for factor in self.plan.study.factors]
        # a study of seeds names a factor as trials name their seed: it is one column
        return pd.DataFrame(list(rows), columns=list(dict.fromkeys([*ids, *factors, *rest])))

    def _pairs(self, name: str, control: str | None) -> list[Pair]:
        theirs = {f.place: f for f in self.by_cell[control]} if control else {}
        return [Pair(f, theirs[f.place]) for f in self.by_cell[name] if f.place in theirs]


def read_results(plan: Plan, vault: Vault) -> Results:
    """Return every planned trial that has a result; a trial of two cells is read once."""
    trials: dict[str, Finished] = {}
    finished = []
    by_cell = Counter(planned.trial.cell.name for planned in plan.trials)
    # a cell beside its control's, whose trials are asked for again by the next cell
    read = lru_cache(maxsize=3 * max(by_cell.values(), default=1))(read_replicates)
    for planned in plan.trials:
        if ("adapt", planned.key) in plan.done:
            known = trials.get(planned.key)
            trial = (
                read_trial(planned, vault, read)
                if known is None
                else replace(known, planned=planned)
            )
            trials[planned.key] = trial
            finished.append(trial)
    return Results(plan=plan, finished=finished)


def arm_name(cell: Cell) -> str:
    """Return the cell's readable identity without its label fraction."""
    named = ((name, v) for name, v in cell.levels if v is not None and name != LABEL_FRACTION.name)
    return ",".join(f"{name}={value}" for name, value in named)


def size_order(cell: Cell) -> float:
    """Return what orders cells by their label budgets."""
    return budget_order(float(str(dict(cell.levels)[LABEL_FRACTION.name])))


def _is_reference(cell: Cell) -> bool:
    return cell.spec.method_class.sees == "metadata"
