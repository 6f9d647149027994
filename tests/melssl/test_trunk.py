"""Trunks: a length made by trunk and branch is the training that one would have had alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from melssl.artifacts import CURVES, FACTS, WEIGHTS, Place
from melssl.encoders import served
from melssl.methods import METHODS
from melssl.pipeline import execute
from melssl.prepared import Prepared
from melssl.settings import with_overrides
from melssl.spec import RunSpec
from melssl.stages import Kind, Stage, stages, trunk
from melssl.training.checkpoint import load_tensors
from melssl.training.devices import Runtime
from melssl.workload import workload

UNWATCHED = Runtime(device="cpu", watch="off")
VIT = {"family": "small_vit", "patch_px": 8, "embed_width": 16, "depth": 1, "heads": 2}
STABLE = {
    **{"epochs": 3, "batch_size": 8, "ema_decay": 0.9, "clip_norm": 1.0},
    **{"schedule": "stable_decay", "warmup_epochs": 0.5, "decay_share": 0.4},
}


def run_of(tiny_spec: RunSpec, method: str = "simclr") -> RunSpec:
    changes: dict[str, object] = {"method": method, "pretraining": STABLE, "pool_size": 0.4}
    spec = served(tiny_spec.replace(**changes))
    return spec.replace(backbone=VIT) if spec.backbone.family == "small_vit" else spec


def of_length(spec: RunSpec, epochs: int) -> RunSpec:
    return with_overrides(spec, [f"pretraining.epochs={epochs}"])


def trunk_of(spec: RunSpec, prepared: Prepared) -> Stage:
    found = trunk(stages(spec, prepared)[0], prepared)
    assert found is not None
    return found


def run(stage: Stage, prepared: Prepared, out: Path, before: Path | None = None) -> Path:
    out.mkdir(parents=True)
    work = out.with_name(f"{out.name}-work")
    work.mkdir()
    inputs: dict[Kind, Path] = {"trunk": before} if before else {}
    execute(stage, prepared, Place(inputs=inputs, out=out, work=work, runtime=UNWATCHED))
    return out


def in_pieces(spec: RunSpec, prepared: Prepared, root: Path) -> Path:
    """Train a length from its trunk, which goes on from that of a shorter one."""
    first, second = (trunk_of(of_length(spec, epochs), prepared) for epochs in (2, 3))
    assert first.end_step is not None
    assert second.end_step is not None
    before = run(first, prepared, root / "first")
    longer = run(second.after(first.key, first.end_step), prepared, root / "second", before)
    branch = stages(spec, prepared)[0].after(second.key, second.end_step)
    return run(branch, prepared, root / "branch", longer)


@pytest.mark.parametrize(
    "method", [name for name, kind in METHODS.items() if kind.trains and "image" in kind.media]
)
def test_trunk_and_branch_give_the_weights_of_an_undivided_training(
    method: str, tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    spec = run_of(tiny_spec, method)
    last = stages(spec, tiny)[0]
    whole = run(last, tiny, tmp_path / "whole")
    shorter = trunk_of(of_length(spec, 2), tiny)  # that knows nothing of the length to come
    before = run(shorter, tiny, tmp_path / "trunk")
    assert shorter.end_step is not None
    pieces = run(last.after(shorter.key, shorter.end_step), tiny, tmp_path / "branch", before)
    expected, got = (load_tensors(folder / WEIGHTS)[0] for folder in (whole, pieces))
    assert expected.keys() == got.keys()
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
    assert (whole / CURVES).read_text() == (pieces / CURVES).read_text()


def test_a_length_costs_what_it_would_alone_and_the_pieces_what_they_took(
    tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    spec = run_of(tiny_spec)
    whole = facts(run(stages(spec, tiny)[0], tiny, tmp_path / "whole"))
    branch = facts(in_pieces(spec, tiny, tmp_path))
    first, second = (facts(tmp_path / name) for name in ("first", "second"))
    assert branch["images_seen"] == whole["images_seen"] == whole["spent_images"]
    pieces = [first, second, branch]
    assert sum(piece["spent_images"] for piece in pieces) == whole["images_seen"]
    spent = [piece["spent_training_seconds"] for piece in pieces]
    assert min(spent) > 0
    assert branch["training_seconds"] == pytest.approx(sum(spent), abs=0.1)
    assert second["training_seconds"] == pytest.approx(sum(spent[:2]), abs=0.1)


def test_a_stage_has_the_work_of_its_own_part_and_knows_what_went_before(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    spec = run_of(tiny_spec)
    whole, before = stages(spec, tiny)[0], trunk_of(spec, tiny)
    assert before.end_step is not None
    branch = whole.after(before.key, before.end_step)
    loads = [workload(stage, tiny) for stage in (whole, before, branch)]
    assert len({load.signature for load in loads}) == 1, "one rate for all"
    assert loads[1].units == loads[2].inherited > 0
    assert loads[0].units == loads[2].units + loads[2].inherited


def test_a_trunk_is_in_no_key_but_its_own(tiny_spec: RunSpec, tiny: Prepared) -> None:
    whole = stages(run_of(tiny_spec), tiny)[0]
    branch = whole.after("another", 7)
    assert (branch.key, branch.payload) == (whole.key, whole.payload)
    assert (branch.needs, branch.first_step) == ((("trunk", "another"),), 7)


@pytest.mark.parametrize(
    ("override", "same_trunk"),
    [
        ("protocol=knn", True),
        ("budget.fraction=0.5", True),
        ("pretraining.warmup_share=0.3", True),  # the warm-up is given in epochs
        ("seed=1", False),
        ("method.temperature=0.5", False),
        ("pretraining.lr=0.1", False),
        ("pretraining.warmup_epochs=1", False),
        ("pool_size=0.5", False),
        ("pretraining.epochs=2", False),
    ],
)
def test_a_trunk_belongs_to_one_training_and_one_step(
    override: str, same_trunk: bool, tiny_spec: RunSpec, tiny: Prepared
) -> None:
    spec = run_of(tiny_spec)
    here, there = trunk_of(spec, tiny), trunk_of(with_overrides(spec, [override]), tiny)
    assert (here.key == there.key) is same_trunk
    assert (here.family == there.family) is (same_trunk or "epochs=2" in override)


def test_only_lengths_of_one_warmup_before_a_stable_phase_share_a_trunk(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    spec = run_of(tiny_spec)
    for overrides in (
        ["pretraining.schedule=cosine"],
        ["pretraining.warmup_epochs=null"],  # the share of warm-up then grows with the length
        ["pretraining.warmup_epochs=0", "pretraining.decay_share=1"],
        ["method=no_pretext"],
    ):
        assert trunk(stages(with_overrides(spec, overrides), tiny)[0], tiny) is None, overrides
    assert trunk(stages(spec, tiny)[0], tiny) is not None


def facts(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / FACTS).read_text())
    return found
