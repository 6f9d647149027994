"""What a study's trials are asked about other cohorts, and the stages that answer."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablations.plan import Place, Plan, PlannedTrial
from ablations.vault import Vault
from melssl.errors import ArtifactError
from melssl.files import write_atomically
from melssl.stages import Stage, predicting
from melssl.unseen import Unseen

FOLDER = "unseen"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A finished trial, and the stage in which its head scores an unseen cohort."""

    planned: PlannedTrial
    stage: Stage


def asked(plan: Plan, unseen: Unseen) -> list[Asked]:
    """Return the predictions of every finished trial that sees images, in the plan's order."""
    return [
        Asked(planned=planned, stage=_stage(plan, planned, unseen))
        for planned in plan.trials
        if ("adapt", planned.key) in plan.done
        and planned.trial.run.base.method_class.sees == "images"
    ]


def _stage(plan: Plan, planned: PlannedTrial, unseen: Unseen) -> Stage:
    prepared = plan.preparations.of(planned.trial.run.base, unseen)
    return predicting(planned.stages, unseen, prepared)


def answered(stages: Container[Place], vault: Vault) -> Iterator[Place]:
    """Yield the predictions in a vault that trials among ``stages`` made, of whatever cohort."""
    for key in sorted(vault.finished("predict")):
        payload = vault.record("predict", key)["payload"]
        assert isinstance(payload, dict)
        assert isinstance(payload["needs"], list)
        needed = [need for need in payload["needs"] if isinstance(need, list)]
        if any(kind == "adapt" and ("adapt", trial) in stages for kind, trial in needed):
            yield "predict", key


def remember_unseen(folder: Path, unseen: Unseen) -> None:
    """Leave in a study's folder what its table has to say of an unseen cohort."""
    path = folder / FOLDER / f"{unseen.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(unseen.plain(), indent=1).encode())


def known_unseen(folder: Path) -> Iterator[Unseen]:
    """Yield the unseen cohorts that a study was asked about.

    Raises:
        ArtifactError: a description cannot be read.

    """
    for path in sorted((folder / FOLDER).glob("[!.]*.json")):
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); delete it") from None
        yield Unseen.parse(data)
