"""Fair arms: no label outside the budget and no test pixel can move a number that it must not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from melssl.artifacts import BUDGET, FACTS, PREDICTIONS, WEIGHTS, Place
from melssl.data.images import Images
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.protocols import PROTOCOLS
from melssl.evaluation.protocols.labelled import LabelledBatch, LabelledFeed
from melssl.frame import Frame
from melssl.methods import METHODS
from melssl.pipeline import execute
from melssl.prepared import Prepared, prepare
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.splits.budgets import LabelledSubset
from melssl.stages import stages
from melssl.training.devices import Rank

SHORT = {"epochs": 1, "batch_size": 16}
SHORT_TUNING = {"epochs": 3, "min_steps": 1, "batch_size": 8}
VARIANTS: dict[str, dict[str, object]] = {  # each protocol as it is, and where it chooses something
    **{name: {"name": name} for name, p in PROTOCOLS.items() if p.judges == "classes"},
    "fine_tune": {"name": "fine_tune", "training": SHORT_TUNING, "threshold_folds": 2},
    "partial_fine_tune": {
        **{"name": "partial_fine_tune", "training": SHORT_TUNING, "threshold_folds": 2},
        **{"last_stages": 1, "sampling": "balanced", "focal_gamma": 2, "mixup_alpha": 0.2},
    },
    "fine_tune, weighted classes": {
        **{"name": "fine_tune", "training": SHORT_TUNING, "class_weight": "inverse"},
        **{"frozen_share": 0.5, "layer_decay": 0.7},
    },
    "layer_probe, first layer": {"name": "layer_probe", "layer": 1, "width": 64},
    "patient_set": {
        **{"name": "patient_set", "training": SHORT_TUNING, "threshold_folds": 2, "set_size": 4},
        **{"columns": ["clinical"], "embed_width": 8, "heads": 2, "depth": 1},
    },
    "fine_tune, best epoch": {
        **{"name": "fine_tune", "training": SHORT_TUNING},
        **{"selection": "best_epoch", "validation_share": 0.3},
    },
    "linear_probe, chosen strength": {"name": "linear_probe", "strengths": [0.1, 1.0, 10.0]},
}
# images stand for all media where labels and predictions are concerned: no medium is known there
TRAINED = [name for name, method in METHODS.items() if method.trains and "image" in method.media]
ABROAD = {
    name: "synthetic_volumes" if "volume" in method.media else "synthetic_clips"
    for name, method in METHODS.items()
    if method.trains and "image" not in method.media
}
ARMS = ["no_pretext", *TRAINED]  # the others without a training take weights from elsewhere
TABLES = [name for name, method in METHODS.items() if method.sees == "metadata"]
# A protocol knows an encoder by its weights alone: four ways to come by them meet every protocol.
MET = ["no_pretext", "simclr", "mae", "supervised"]
PAIRS = [(name, v) for name in ARMS for v in VARIANTS if name in MET or v == "linear_probe"]


@dataclass(frozen=True, kw_only=True)
class Fixed(Prepared):
    """A prepared study in which something was tampered with, while its budget stays as it was."""

    labelled: LabelledSubset
    seen: Callable[[Images], Images] = lambda images: images

    def budget(self, spec: RunSpec) -> LabelledSubset:
        return self.labelled

    def images(self) -> Images:
        return self.seen(super().images())


@dataclass(frozen=True)
class Noised:
    """Images of which some rows are replaced by noise."""

    images: Images
    rows: np.ndarray

    @property
    def frame(self) -> Frame:
        return self.images.frame

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        pixels = self.images.batch(rows).clone()
        noise = torch.randint(0, 256, pixels.shape, generator=Seed(9).torch()).to(torch.uint8)
        hit = torch.from_numpy(np.isin(rows, self.rows))
        pixels[hit] = noise[hit]
        return pixels


def arm(tiny_spec: RunSpec, method: str, variant: str = "linear_probe") -> RunSpec:
    vit = {"family": "small_vit", "patch_px": 8, "embed_width": 16, "depth": 1, "heads": 2}
    changes: dict[str, object] = {"backbone": vit, "method": method, "pretraining": SHORT}
    changes |= {"protocol": VARIANTS[variant], "budget": {"fraction": 0.6}}
    return tiny_spec.replace(**changes)


def tampered(
    spec: RunSpec, tiny: Prepared, seen: Callable[[Images], Images] = lambda images: images
) -> Fixed:
    known = {"cohort": tiny.cohort, "folds": tiny.folds, "store": tiny.store}
    return Fixed(**known, labelled=tiny.budget(spec), seen=seen)


def relabelled(spec: RunSpec, tiny: Prepared) -> Fixed:
    """Return the study with the labels outside its budget drawn anew; folds and budget stay."""
    frame = tiny.cohort.frame
    outside = np.flatnonzero(~frame["sample_id"].isin(set(tiny.budget(spec).sample_ids)))
    target = frame["target"].to_numpy(np.int64).copy()
    target[outside] = Seed(1).numpy().integers(0, len(tiny.cohort.classes), len(outside))
    sides = frame["patient_id"].isin(tiny.fold(spec).test)
    changed = target != frame["target"]
    assert changed[sides].any()
    assert changed[~sides].any()
    assert target.mean() != frame["target"].mean()  # shares of classes are labels, too
    cohort = replace(tiny.cohort, frame=frame.assign(target=target))
    return replace(tampered(spec, tiny), cohort=cohort)


def run(spec: RunSpec, prepared: Prepared, root: Path) -> dict[str, Path]:
    done: dict[str, Path] = {}
    for stage in stages(spec, prepared):
        out = root / stage.kind
        out.mkdir(parents=True)
        execute(stage, prepared, Place(inputs=dict(done), out=out, work=out))
        done[stage.kind] = out
    return done


@pytest.fixture(scope="module")
def untouched(
    tiny_spec: RunSpec, tiny: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], dict[str, Path]]:
    """Return what leaves the artifacts of an arm as it should be, each made once."""

    @cache
    def artifacts(method: str, variant: str) -> dict[str, Path]:
        spec = arm(tiny_spec, method, variant)
        return run(spec, tampered(spec, tiny), tmp_path_factory.mktemp("untouched"))

    return artifacts


Untouched = Callable[[str, str], dict[str, Path]]


def same_weights(first: dict[str, Path], second: dict[str, Path]) -> bool:
    if "pretrain" not in first:
        return "pretrain" not in second
    return (first["pretrain"] / WEIGHTS).read_bytes() == (second["pretrain"] / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("method", "variant"), PAIRS + [(method, "linear_probe") for method in TABLES]
)
def test_no_label_outside_the_budget_can_change_a_prediction(
    method: str,
    variant: str,
    untouched: Untouched,
    tiny_spec: RunSpec,
    tiny: Prepared,
    tmp_path: Path,
) -> None:
    spec = arm(tiny_spec, method, variant)
    told = untouched(method, variant)
    lied = run(spec, relabelled(spec, tiny), tmp_path)
    assert same_weights(told, lied)
    before, after = (Predictions.load(files["adapt"] / PREDICTIONS) for files in (told, lied))
    np.testing.assert_array_equal(before.sample_id, after.sample_id)
    assert (before.target != after.target).any()
    np.testing.assert_array_equal(before.probability, after.probability)
    np.testing.assert_array_equal(before.prior, after.prior)
    assert dict(before.thresholds) == dict(after.thresholds)
    facts = [json.loads((files["adapt"] / FACTS).read_text()) for files in (told, lied)]
    assert facts[0]["chosen"] == facts[1]["chosen"]


@pytest.mark.parametrize(("method", "variant"), PAIRS)
def test_the_pixels_of_test_patients_change_their_own_predictions_and_nothing_else(
    method: str,
    variant: str,
    untouched: Untouched,
    tiny_spec: RunSpec,
    tiny: Prepared,
    tmp_path: Path,
) -> None:
    spec = arm(tiny_spec, method, variant)
    tested = sorted(tiny.fold(spec).test)
    hit = set(tested[: len(tested) // 2])
    rows = np.flatnonzero(tiny.cohort.frame["patient_id"].isin(hit))
    told = untouched(method, variant)
    noised = run(spec, tampered(spec, tiny, lambda images: Noised(images, rows)), tmp_path)
    assert same_weights(told, noised)
    before, after = (Predictions.load(files["adapt"] / PREDICTIONS) for files in (told, noised))
    mine = np.isin(before.patient_id, list(hit))
    np.testing.assert_array_equal(before.probability[~mine], after.probability[~mine])
    assert (before.probability[mine] != after.probability[mine]).any()
    assert dict(before.thresholds) == dict(after.thresholds)
    others = np.setdiff1d(np.arange(len(tiny.cohort)), rows)
    for file in sorted(told["embed"].glob("*.npy")) if "embed" in told else ():
        embeddings = [np.load(folder / file.name) for folder in (told["embed"], noised["embed"])]
        np.testing.assert_array_equal(embeddings[0][others], embeddings[1][others])
        assert (embeddings[0][rows] != embeddings[1][rows]).any()


@pytest.mark.parametrize("method", TRAINED)
def test_no_pixel_of_any_test_patient_can_change_a_checkpoint(
    method: str, untouched: Untouched, tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    spec = arm(tiny_spec, method)
    rows = np.flatnonzero(tiny.cohort.frame["patient_id"].isin(tiny.fold(spec).test))
    noised = tampered(spec, tiny, lambda images: Noised(images, rows))
    execute(stages(spec, noised)[0], noised, Place(inputs={}, out=tmp_path, work=tmp_path))
    assert same_weights(untouched(method, "linear_probe"), {"pretrain": tmp_path})


@pytest.fixture(scope="module")
def abroad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the made volumes and clips are decoded once."""
    return tmp_path_factory.mktemp("abroad")


@pytest.mark.parametrize("method", ABROAD)
def test_no_voxel_of_any_test_patient_can_change_a_checkpoint(
    method: str, tiny_spec: RunSpec, abroad: Path, tmp_path: Path
) -> None:
    cohort = {"source": ABROAD[method], "n_patients": 12}
    changes = {"image_px": 16, "fit": "squash", "method": method, "pretraining": SHORT}
    spec = tiny_spec.replace(cohort=cohort, **changes)
    there = prepare(spec, abroad / ABROAD[method])
    rows = np.flatnonzero(there.cohort.frame["patient_id"].isin(there.fold(spec).test))
    assert 0 < len(rows) < len(there.cohort)
    checkpoints = []
    for seen in (lambda images: images, lambda images: Noised(images, rows)):
        out = tmp_path / str(len(checkpoints))
        out.mkdir()
        stage = stages(spec, there)[0]
        execute(stage, tampered(spec, there, seen), Place(inputs={}, out=out, work=out))
        checkpoints.append({"pretrain": out})
    assert same_weights(*checkpoints)


@pytest.mark.parametrize("method", [name for name in TRAINED if METHODS[name].uses_labels])
def test_labels_of_the_budget_are_what_the_control_of_equal_compute_learns_from(
    method: str, untouched: Untouched, tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    spec = arm(tiny_spec, method)
    seen = (untouched(method, "linear_probe")["pretrain"] / "pool.txt").read_text().split()
    assert set(seen) == set(tiny.budget(spec).sample_ids)
    frame = tiny.cohort.frame
    # by a row, for SupCon does not care what two classes are called
    moved = replace(tiny.cohort, frame=frame.assign(target=np.roll(frame["target"], 1)))
    lied = replace(tampered(spec, tiny), cohort=moved)
    execute(stages(spec, lied)[0], lied, Place(inputs={}, out=tmp_path, work=tmp_path))
    assert not same_weights(untouched(method, "linear_probe"), {"pretrain": tmp_path})


def test_all_arms_see_the_same_labels_and_the_same_augmented_images(
    tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = LabelledFeed.batch
    shown: dict[str, list[str]] = {}

    def watch(feed: LabelledFeed, places: np.ndarray, draw: Seed, rank: Rank) -> LabelledBatch:
        made = batch(feed, places, draw, rank)
        content = made.images.numpy().tobytes() + made.target.numpy().tobytes()
        shown[method].append(hashlib.sha256(content).hexdigest())
        return made

    monkeypatch.setattr(LabelledFeed, "batch", watch)
    labels = set()
    for method in ARMS:
        shown[method] = []
        done = run(arm(tiny_spec, method, "fine_tune, best epoch"), tiny, tmp_path / method)
        labels.add((done["adapt"] / BUDGET).read_text())
    assert len(labels) == 1
    assert len(set(shown["no_pretext"])) > 3
    assert all(seen == shown["no_pretext"] for method, seen in shown.items()), shown
