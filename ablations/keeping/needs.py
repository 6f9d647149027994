"""Needs: what the known studies and searches ask of a vault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ablations.design import Study
from ablations.keeping.users import User, users
from ablations.plan import Place, PlannedTrial, make_plan
from ablations.preparations import Preparations
from ablations.unseen.asked import answered, known_unseen
from ablations.vault import Vault
from melssl.errors import ArtifactError, MelsslError
from melssl.settings import with_overrides
from melssl.spec import RunSpec

TRIALS = "trials.csv"


@dataclass(kw_only=True)
class Needs:
    """What somebody still needs: stages, folders of pixels and of made images; and who."""

    stages: set[Place] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    names: list[str] = field(default_factory=list)


def needs(vault: Vault, studies: Path) -> Needs:
    """Return what the studies of a folder need, and those that left word in the vault.

    A trunk is needed while a training that goes on from it is not finished.

    Raises:
        ArtifactError: what a study needs cannot be told.

    """
    preparations, found = Preparations(vault.root, decode=False), Needs()
    for user in users(vault, studies):
        try:
            _add(found, user, preparations, vault)
        except (MelsslError, OSError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"what {user.folder} on {user.host} needs cannot be told ({error}); mend it, or"
                " delete its folder if it needs nothing any more"
            ) from None
        found.names.append(user.folder.name)
    found.stages |= set(answered(found.stages, vault))
    return found


def _add(found: Needs, user: User, preparations: Preparations, vault: Vault) -> None:
    if user.is_search:
        for spec, planned in _suggested(user, preparations, vault):
            _add_folders(found, [spec], preparations)
            _add_trials(found, planned)
        return
    plan = make_plan(Study.parse(user.data), preparations, vault)
    _add_folders(found, plan.bases, preparations)
    _add_trials(found, plan.trials)
    for unseen in known_unseen(user.folder):
        other = preparations.of(plan.study.baseline, unseen).unseen
        assert other is not None
        found.folders |= {other.store, other.cohort.root}
    for stage in plan.missing():
        found.stages |= {(stage.kind, stage.key), *stage.needs}


def _add_trials(found: Needs, trials: Iterable[PlannedTrial]) -> None:
    found.stages |= {
        (stage.kind, stage.key) for t in trials for stage in t.stages if stage.kind != "trunk"
    }


def _add_folders(found: Needs, specs: Iterable[RunSpec], preparations: Preparations) -> None:
    for spec in specs:
        prepared = preparations.of(spec)
        found.folders |= {prepared.store, prepared.cohort.root}
        if prepared.external is not None:
            found.folders |= {prepared.external.store, prepared.external.cohort.root}


def _suggested(
    user: User, preparations: Preparations, vault: Vault
) -> Iterator[tuple[RunSpec, list[PlannedTrial]]]:
    """Yield every suggestion of a search, by its table of trials, with what it ran."""
    from ablations.searching.design import Search

    search = Search.parse(user.data)
    table = pd.read_csv(user.folder / TRIALS, dtype=str, keep_default_na=False)
    names = [dimension.name for dimension in search.space]
    for values in table[names].itertuples(index=False):
        settings = [f"{name}={value}" for name, value in zip(names, values, strict=True)]
        for spec in search.ladder(with_overrides(search.baseline, settings)):
            for planned in search.by_fold(spec, preparations, vault):
                yield spec, planned
