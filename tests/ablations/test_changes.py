"""Plan --diff: which stages a change of settings runs again, and which setting is the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.changes import change_lines, changes, keys_of
from ablations.design import Study
from ablations.plan import make_plan
from ablations.preparations import Preparations
from ablations.vault import Vault
from melssl.settings import with_overrides
from melssl.stages import Kind

LATER: dict[str, tuple[Kind, ...]] = {
    "pretraining.epochs=2": ("pretrain", "embed", "adapt"),
    "protocol.strength=2": ("adapt",),
    "store_px=48": ("pretrain", "embed", "adapt"),
    "audit.similarity=0.9": (),
    "protocol=fine_tune": ("embed", "adapt"),
}


@pytest.fixture(scope="module")
def preparations(tmp_path_factory: pytest.TempPathFactory) -> Preparations:
    return Preparations(tmp_path_factory.mktemp("cache"), decode=False)


def changed(study: Study, *overrides: str) -> Study:
    return study.replace(baseline=with_overrides(study.baseline, overrides))


@pytest.mark.parametrize("override", LATER)
def test_a_change_names_the_kinds_of_stage_that_it_touches(
    override: str, tiny_study: Study, preparations: Preparations, tmp_path: Path
) -> None:
    vault = Vault(tmp_path)
    old = keys_of(make_plan(tiny_study, preparations, vault))
    (found,) = changes(tiny_study, changed(tiny_study, override), old, preparations, vault)
    assert ".".join(found.path) == f"baseline.{override.split('=')[0]}"
    assert found.touched == LATER[override]


def test_what_is_kept_new_and_no_longer_needed_is_counted(
    tiny_study: Study, preparations: Preparations, tmp_path: Path
) -> None:
    vault = Vault(tmp_path)
    ran = keys_of(make_plan(tiny_study, preparations, vault))
    levels = {"label_fraction": (0.5, 0.75)}
    other = changed(tiny_study, "pretraining.epochs=2").replace(levels=levels)
    lines = change_lines(make_plan(other, preparations, vault), tiny_study, ran, vault)
    assert lines == [
        "changes against study tiny, as it was run last:",
        "  pretraining.epochs: 1 -> 2 (touches encoders, embeddings, trials)",
        "  levels.label_fraction: [0.5, 1.0] -> [0.5, 0.75] (touches trials)",
        "  encoders   1 kept, 2 new, 2 not needed",
        "  embeddings 1 kept, 2 new, 2 not needed",
        "  trials     4 kept, 12 new, 8 not needed",
    ]


def test_an_unchanged_study_says_so_and_what_else_has_changed(
    tiny_study: Study, preparations: Preparations, tmp_path: Path
) -> None:
    vault = Vault(tmp_path)
    plan = make_plan(tiny_study, preparations, vault)
    assert "  no setting differs" in change_lines(plan, tiny_study, keys_of(plan), vault)
    ran = keys_of(plan) | {"adapt": frozenset({"of an older version"})}
    lines = change_lines(plan, tiny_study, ran, vault)
    assert "  trials     0 kept, 12 new, 1 not needed" in lines
    assert any("files, the code" in line for line in lines)
