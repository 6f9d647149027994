"""Plan: trials -> stages, each once; what is finished, what failed, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ablations.design import Study, Trial
from ablations.preparations import Preparations
from ablations.trunks import with_trunks
from ablations.vault import Vault
from melssl.errors import CohortError, SpecError, SplitError, listed
from melssl.methods.metadata import MetadataSettings
from melssl.prepared import Prepared
from melssl.spec import ARMS_DIFFER_IN, RunSpec, differing
from melssl.stages import Kind, Stage, stages

KINDS: tuple[Kind, ...] = ("trunk", "pretrain", "embed", "adapt")


@dataclass(frozen=True, kw_only=True)
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
    stages: dict[tuple[Kind, str], Stage]
    done: frozenset[tuple[Kind, str]] = frozenset()
    failed: frozenset[tuple[Kind, str]] = frozenset()
    absent: Mapping[str, str] = field(default_factory=dict)

    def all_of(self, kind: Kind) -> list[Stage]:
        """Return all stages of a kind, in the order of first need."""
        return [stage for stage in self.stages.values() if stage.kind == kind]

    def missing(self, kind: Kind | None = None) -> list[Stage]:
        """Return the stages that must still run: those that an unfinished trial waits for."""
        wanted: set[tuple[Kind, str]] = set()
        asked: list[tuple[Kind, str]] = [("adapt", planned.key) for planned in self.trials]
        while asked:
            place = asked.pop()
            # what is needed and not planned lies in the vault since an earlier study
            if place not in wanted and place not in self.done and place in self.stages:
                wanted.add(place)
                asked += self.stages[place].needs
        return [
            stage
            for place, stage in self.stages.items()
            if place in wanted and kind in (None, stage.kind)
        ]

    @property
    def n_finished(self) -> int:
        """Number of planned trials with a result."""
        return len({t.key for t in self.trials if ("adapt", t.key) in self.done})

    @property
    def n_planned(self) -> int:
        """Number of distinct planned trials."""
        return len({t.key for t in self.trials})


def make_plan(study: Study, preparations: Preparations, vault: Vault) -> Plan:
    """Lay out a study.

    Raises:
        SplitError: budgets that the cohort cannot give; all of them are named.

    """
    baseline = preparations.of(study.baseline)
    absent = {name: why for name in study.references if (why := without(name, baseline))}
    possible = [t for t in study.trials() if t.spec.method.name not in absent]
    chains = [stages(trial.spec, preparations.of(trial.spec)) for trial in possible]
    trials = tuple(
        PlannedTrial(trial=trial, stages=chain)
        for trial, chain in zip(possible, with_trunks(chains, preparations, vault), strict=True)
    )
    _check_images(trials, baseline)
    _check_arms(study, trials)
    _check_budgets(trials, preparations)
    wanted: dict[tuple[Kind, str], Stage] = {}
    for planned in trials:
        for stage in planned.stages:
            wanted.setdefault((stage.kind, stage.key), stage)
    plan = Plan(study=study, preparations=preparations, trials=trials, stages=wanted, absent=absent)
    return looked_up(plan, vault)


def looked_up(plan: Plan, vault: Vault) -> Plan:
    """Return the plan with what the vault holds now."""
    done = {(kind, key) for kind in KINDS for key in vault.finished(kind)}
    failed = {(kind, key) for kind in KINDS for key in vault.failures(kind)}
    return replace(
        plan,
        done=frozenset(done & plan.stages.keys()),
        failed=frozenset(failed & plan.stages.keys() - done),
    )


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


def _check_images(trials: tuple[PlannedTrial, ...], prepared: Prepared) -> None:
    specs = [planned.trial.spec for planned in trials]
    seeing = {spec.method.name for spec in specs if spec.method_class.sees == "images"}
    if seeing and not prepared.cohort.has_images:
        raise CohortError(
            f"{prepared.cohort.name} is a table without images, and {', '.join(sorted(seeing))}"
            " must see some; use --factor metadata_columns, or mend the files"
        )


def _check_arms(study: Study, trials: tuple[PlannedTrial, ...]) -> None:
    """Refuse, before anything is trained, arms that differ from their control in too much."""
    cells = {planned.trial.cell.name: planned.trial.cell for planned in trials}
    faults = []
    for name, control in study.compared(cells.values()).items():
        parts = differing(cells[name].spec, cells[control].spec) if control else frozenset()
        if parts - ARMS_DIFFER_IN:
            faults.append(f"{name} and {control}: {', '.join(sorted(parts - ARMS_DIFFER_IN))}")
    if faults:
        raise SpecError(
            f"an arm and its control may differ in {' and '.join(sorted(ARMS_DIFFER_IN))} only,"
            f" these differ in more\n{listed(faults)}"
        )


def _check_budgets(trials: tuple[PlannedTrial, ...], preparations: Preparations) -> None:
    """Draw the smallest budget of every fold and draw: the larger ones contain it."""
    smallest: dict[tuple[int, int], Trial] = {}
    for planned in trials:
        trial = planned.trial
        known = smallest.setdefault((trial.fold, trial.draw), trial)
        if trial.spec.budget.fraction < known.spec.budget.fraction:
            smallest[trial.fold, trial.draw] = trial
    faults = []
    for trial in smallest.values():
        try:
            preparations.of(trial.spec).budget(trial.spec)
        except SplitError as error:
            faults.append(str(error))
    if faults:
        raise SplitError(f"{len(faults)} budgets cannot be drawn:\n{listed(faults)}")
