"""Changes: what a change of settings would run again, against a study as it was run last."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ablations.design import Study
from ablations.plan import KINDS, Plan, make_plan
from ablations.preparations import Preparations
from ablations.status import KIND_NAMES
from ablations.vault import Vault
from melssl.errors import MelsslError
from melssl.settings import Json
from melssl.stages import Kind

Keys = Mapping[str, frozenset[str]]
CHOOSES = ("name", "family", "source")  # a part of another kind is another part, and no detail
TOLD = ("name", "question", "overrides")  # what is said of a study, and decides nothing
ABSENT = "none"
LONGEST = 60


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting that differs, by its path; ``touched`` are the kinds of stage that it changes.

    None where it cannot be changed without the others.
    """

    path: tuple[str, ...]
    old: Json
    new: Json
    touched: tuple[Kind, ...] | None = None

    def __str__(self) -> str:
        where = ".".join(self.path[1:] if self.path[0] == "baseline" else self.path)
        if self.touched is None:
            why = "only together with the others"
        else:
            names = ", ".join(KIND_NAMES[kind] for kind in self.touched)
            why = f"touches {names}" if names else "touches no stage"
        return f"  {where}: {_shown(self.old)} -> {_shown(self.new)} ({why})"


def keys_of(plan: Plan) -> Keys:
    """Return the keys of a plan's stages by kind."""
    return {kind: frozenset(stage.key for stage in plan.all_of(kind)) for kind in KINDS}


def change_lines(plan: Plan, before: Study, ran: Keys | None, vault: Vault) -> list[str]:
    """Say what a plan keeps of a study, what it adds, and which settings are the reason.

    ``ran`` are the study's stages when it was run last, if that is known.
    """
    planned, preparations = keys_of(plan), plan.preparations
    old = keys_of(make_plan(before, preparations, vault))
    found = list(changes(before, plan.study, old, preparations, vault))
    counts = [_counted(kind, ran or old, planned, plan) for kind in KINDS]
    as_run = "as it was run last" if ran else "by its settings, for its last plan is not there"
    lines = [f"changes against study {before.name}, {as_run}:", *map(str, found)]
    if not found:
        lines.append("  no setting differs")
    if ran and ran != old:
        lines.append("  since then the cohort's files, the code or the vault's trunks have changed")
    return [*lines, *(line for line in counts if line)]


def changes(
    before: Study, after: Study, old: Keys, preparations: Preparations, vault: Vault
) -> Iterator[Change]:
    """Yield the settings that differ, each with what it would touch if it changed alone."""
    plain = {name: value for name, value in before.plain().items() if name not in TOLD}
    other = {name: value for name, value in after.plain().items() if name not in TOLD}
    for change in _differences(plain, other, ()):
        try:
            alone = Study.parse({"name": before.name, **_changed(plain, change)})
            keys = keys_of(make_plan(alone, preparations, vault))
        except MelsslError:
            yield change
            continue
        touched = tuple(kind for kind in KINDS if keys[kind] != old[kind])
        yield Change(path=change.path, old=change.old, new=change.new, touched=touched)


def _differences(old: Json, new: Json, path: tuple[str, ...]) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict) and _kind(old) == _kind(new):
        for name in {**old, **new}:
            yield from _differences(old.get(name), new.get(name), (*path, name))
    elif old != new:
        yield Change(path=path, old=old, new=new)


def _changed(plain: Mapping[str, Json], change: Change) -> dict[str, Json]:
    whole: dict[str, Json] = copy.deepcopy(dict(plain))
    place = whole
    for name in change.path[:-1]:
        below = place[name]
        assert isinstance(below, dict), f"{change.path} was found by going down these"
        place = below
    if change.path[0] == "levels" and change.new is None:
        del place[change.path[-1]]  # a factor that is no longer varied
    else:
        place[change.path[-1]] = change.new
    return whole


def _counted(kind: Kind, old: Keys, planned: Keys, plan: Plan) -> str:
    new, gone = planned[kind] - old[kind], old[kind] - planned[kind]
    if not (planned[kind] or gone):
        return ""
    made = sum((kind, key) in plan.done for key in new)
    known = f" ({made} in the vault already)" if made else ""
    kept = len(planned[kind] & old[kind])
    return f"  {KIND_NAMES[kind]:<10} {kept} kept, {len(new)} new{known}, {len(gone)} not needed"


def _kind(part: Mapping[str, Json]) -> list[Json]:
    return [part.get(name) for name in CHOOSES]


def _shown(value: Json) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, dict):
        kind = next((part for part in _kind(value) if part is not None), None)
        return str(kind) if kind is not None else f"{len(value)} settings"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
