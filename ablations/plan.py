"""Plan: trials -> stages, each once; what is finished, what failed, what is missing."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from ablations.design import Cell, Study, Trial
from ablations.preparations import Preparations
from ablations.table import budget_order
from ablations.trunks import with_trunks
from ablations.vault import Vault
from melssl.errors import CohortError, SpecError, SplitError, listed
from melssl.methods.metadata import MetadataSettings
from melssl.prepared import Prepared
from melssl.runs import Run
from melssl.spec import ARMS_DIFFER_IN, RunSpec, differing
from melssl.stages import Chains, Kind, Stage

Place = tuple[Kind, str]
KINDS: tuple[Kind, ...] = ("trunk", "pretrain", "embed", "adapt", "predict")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """A trial and the stages that lead to it; its key is the key of the last one.

    A trunk leads the way to its own length; those of shorter lengths before it are in the plan.
    """

    trial: Trial
    stages: tuple[Stage, ...]

    @property
    def key(self) -> str:
        """Identity of the trial: two cells that lead to one spec are one trial."""
        return self.stages[-1].key


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study needs: every stage once, and which of them the vault holds.

    ``absent`` are the references that the cohort cannot have, with the reason.
    """

    study: Study
    preparations: Preparations
    trials: tuple[PlannedTrial, ...]
    stages: dict[Place, Stage]
    done: frozenset[Place] = frozenset()
    failed: frozenset[Place] = frozenset()
    absent: Mapping[str, str] = field(default_factory=dict)

    def all_of(self, kind: Kind) -> list[Stage]:
        """Return all stages of a kind, in the order of first need."""
        return [stage for stage in self.stages.values() if stage.kind == kind]

    def missing(self, kind: Kind | None = None) -> list[Stage]:
        """Return the stages that must still run: those that an unfinished trial waits for."""
        return [stage for stage in self._missing if kind in (None, stage.kind)]

    @cached_property
    def _missing(self) -> tuple[Stage, ...]:
        wanted: set[Place] = set()
        asked: list[Place] = [("adapt", planned.key) for planned in self.trials]
        while asked:
            place = asked.pop()
            # what is needed and not planned lies in the vault since an earlier study
            if place not in wanted and place not in self.done and place in self.stages:
                wanted.add(place)
                asked += self.stages[place].needs
        return tuple(stage for place, stage in self.stages.items() if place in wanted)

    @property
    def bases(self) -> list[RunSpec]:
        """The specs that the runs differ from in fold, draw and seed only, each once."""
        return list({id(t.trial.run.base): t.trial.run.base for t in self.trials}.values())

    @property
    def n_finished(self) -> int:
        """Number of planned trials with a result."""
        return len({t.key for t in self.trials if ("adapt", t.key) in self.done})

    @property
    def n_planned(self) -> int:
        """Number of distinct planned trials."""
        return len({t.key for t in self.trials})


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no cyclic garbage meanwhile: of a large plan that took a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@uncollected()
def make_plan(study: Study, preparations: Preparations, vault: Vault) -> Plan:
    """Lay out a study.

    Raises:
        SplitError: budgets that the cohort cannot give; all of them are named.

    """
    absent = check_study(study, preparations)
    laid = _Laid(preparations)
    trials = [t for t in study.trials() if t.cell.spec.method.name not in absent]
    chains = with_trunks([laid.chain(t.run) for t in trials], preparations, vault)
    wanted: dict[Place, Stage] = {}
    for chain in chains:
        for stage in chain:
            wanted.setdefault((stage.kind, stage.key), stage)
    planned = (
        PlannedTrial(trial=trial, stages=chain) for trial, chain in zip(trials, chains, strict=True)
    )
    plan = Plan(
        study=study,
        preparations=preparations,
        trials=tuple(planned),
        stages=wanted,
        absent=absent,
    )
    return looked_up(plan, vault)


class _Laid:
    """The chains of runs; those of one cell, on folds dealt alike, are made together."""

    def __init__(self, preparations: Preparations) -> None:
        self._preparations = preparations
        self._made: dict[int, Chains] = {}

    def chain(self, run: Run) -> tuple[Stage, ...]:
        # the runs of a cell hold one and the same base, and their trials keep it alive
        if id(run.base) not in self._made:
            prepared = self._preparations.of(run.base)
            self._made[id(run.base)] = Chains(run.base, prepared)
        return self._made[id(run.base)].at(run)


def looked_up(plan: Plan, vault: Vault) -> Plan:
    """Return the plan with what the vault holds now."""
    done = {kind: vault.finished(kind) for kind in KINDS}
    failed = {kind: vault.failures(kind) for kind in KINDS}
    finished = frozenset(place for place in plan.stages if place[1] in done[place[0]])
    return replace(
        plan,
        done=finished,
        failed=frozenset(
            place for place in plan.stages if place[1] in failed[place[0]] and place not in finished
        ),
    )


def check_study(study: Study, preparations: Preparations) -> dict[str, str]:
    """Refuse a study that cannot run; return the references that it must do without, and why.

    Raises:
        SpecError: arms that differ from their control in more than method and pretraining.
        SplitError: budgets that the cohort cannot give; all of them are named.

    """
    baseline = preparations.of(study.baseline)
    absent = {name: why for name in study.references if (why := without(name, baseline))}
    if study.baseline.protocol.judges == "masks":
        absent = dict.fromkeys(study.references, "a table of metadata draws no masks")
    cells = [cell for cell in study.cells() if cell.spec.method.name not in absent]
    _check_images(cells, baseline)
    _check_outcome(cells)
    _check_arms(study, cells)
    _check_budgets(study, cells, preparations)
    return absent


def without(reference: str, prepared: Prepared) -> str:
    """Return why a cohort cannot have a metadata-only arm; nothing if it can."""
    config = RunSpec.parse({"method": reference}).method
    if not isinstance(config, MetadataSettings):
        raise SpecError(f"baseline {reference!r} sees images; name it with --method")
    try:
        config.columns_of(prepared.cohort)
    except CohortError as error:
        return str(error)
    return ""


def _check_images(cells: Sequence[Cell], prepared: Prepared) -> None:
    seeing = {c.spec.method.name for c in cells if c.spec.method_class.sees == "images"}
    if seeing and not prepared.cohort.has_images:
        raise CohortError(
            f"{prepared.cohort.name} is a table without images, and {', '.join(sorted(seeing))}"
            " must see some; use --factor metadata_columns, or mend the files"
        )


def _check_outcome(cells: Sequence[Cell]) -> None:
    """Refuse protocols side by side whose scores have nothing in common."""
    names = {c.spec.protocol.name: c.spec.protocol.judges for c in cells}
    if len(set(names.values())) > 1:
        told = ", ".join(f"{name} says {judges}" for name, judges in names.items())
        raise SpecError(
            f"protocols of one study score one kind of outcome, these do not: {told}; make a study"
            " of each"
        )


def _check_arms(study: Study, cells: Sequence[Cell]) -> None:
    """Refuse, before anything is trained, arms that differ from their control in too much."""
    named = {cell.name: cell for cell in cells}
    faults = []
    for name, control in study.compared(cells).items():
        parts = differing(named[name].spec, named[control].spec) if control else frozenset()
        if parts - ARMS_DIFFER_IN:
            faults.append(f"{name} and {control}: {', '.join(sorted(parts - ARMS_DIFFER_IN))}")
    if faults:
        raise SpecError(
            f"an arm and its control may differ in {' and '.join(sorted(ARMS_DIFFER_IN))} only,"
            f" these differ in more\n{listed(faults)}"
        )


def _check_budgets(study: Study, cells: Sequence[Cell], preparations: Preparations) -> None:
    """Draw the smallest budget of every fold and draw: the larger ones contain it.

    And the largest where it is a number of patients, that a fold may not have.
    """
    ordered = sorted(cells, key=lambda cell: budget_order(cell.spec.budget.size))
    counted = [cell for cell in ordered if cell.spec.budget.count is not None]
    faults = []
    for cell in {cell.name: cell for cell in (ordered[0], *counted[-1:])}.values():
        faults += _undrawn(study, cell, preparations)
    if faults:
        raise SplitError(f"{len(faults)} budgets cannot be drawn:\n{listed(faults)}")


def _undrawn(study: Study, cell: Cell, preparations: Preparations) -> list[str]:
    """Return why budgets of a cell cannot be drawn, one sentence for each."""
    by_draw = {(t.fold, t.draw): t for t in study.trials([cell])}
    faults, sure = [], set()
    for (fold, draw), trial in by_draw.items():
        if fold in sure:
            continue
        prepared = preparations.of(trial.run.base)
        try:
            prepared.budget(trial.spec)
        except SplitError as error:
            faults.append(str(error))
        if draw == 0 and prepared.every_draw_works(trial.spec):
            sure.add(fold)
    return faults
