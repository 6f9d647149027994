"""Segmentation: published decoders, crops that move with their masks, masks of the budget only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from melssl.artifacts import BUDGET, FACTS, MASK_SCORES, SCORES, SLICES, Place
from melssl.backbones import backbone_config
from melssl.data.images import SomeImages
from melssl.data.masks import MaskStore
from melssl.errors import (
    ArtifactError,
    BackboneError,
    CohortError,
    MissingExtraError,
    PictureError,
    SplitError,
)
from melssl.evaluation.mask_scores import MaskScores
from melssl.evaluation.protocols.segmentation import Segmentation
from melssl.evaluation.segmenting import decoders
from melssl.evaluation.segmenting.crops import CropBatch, CropFeed, CropRecipe, normalised
from melssl.evaluation.segmenting.decoders import check_decodable, decoder_for
from melssl.evaluation.segmenting.segmenter import Segmenter, labels_of
from melssl.frame import Frame
from melssl.methods.weights import load_whole
from melssl.pictures.masks import masks
from melssl.pictures.subject import Subject
from melssl.pipeline import execute
from melssl.prepared import Prepared, prepare
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.stages import stages
from melssl.training.devices import Rank
from melssl.training.loop import fit
from melssl.training.optim import TrainSpec
from melssl.workload import calibrate, workload

pytest.importorskip("monai", reason="the extra 'volumes' is not installed")

CUBE = Frame(16, 16, 1)
CPU = torch.device("cpu")
VIT = {"family": "small_vit", "embed_width": 16, "depth": 4, "heads": 2}
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
ENCODERS = {
    "vit, patches of 2": VIT | {"patch_px": 2, "patch_depth": 2, "depth": 1},
    "vit, patches of 4": VIT | {"patch_px": 4, "patch_depth": 4},
    "vit, patches of 8": VIT | {"patch_px": 8, "patch_depth": 8},
    "cnn": CNN,
}
RUN = {
    "cohort": {"source": "synthetic_volumes", "n_patients": 6, "side_mm": 16},
    "image_px": 16,
    "store_px": 24,
    "folds": {"n_folds": 2},
    "method": "no_pretext",
    "backbone": CNN,
    "budget": {"count": 2, "min_patients_per_class": 1},
    "protocol": {
        "name": "segmentation",
        "decoder_width": 4,
        "training": {"epochs": 1, "min_steps": 2, "batch_size": 2},
    },
}


def built(name: str) -> Segmenter:
    torch.manual_seed(0)
    backbone = backbone_config(ENCODERS[name]).build(CUBE)
    return Segmenter(backbone, decoder_for(backbone, CUBE, 3, 4))


def batch(n: int = 2) -> CropBatch:
    rng = Seed(3).torch()
    images = torch.randn(n, *CUBE.shape, generator=rng)
    return CropBatch(images, torch.randint(0, 3, (n, *CUBE.sides), generator=rng))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_weight_of_encoder_and_decoder_learns(name: str) -> None:
    model = built(name)
    assert model.scores(batch().images).shape == (2, 3, *CUBE.sides)
    model.step(batch()).loss.backward()  # type: ignore[no-untyped-call]
    idle = [n for n, w in model.named_parameters() if w.grad is None or not w.grad.any()]
    # instance norm takes away what a bias before it adds
    assert [name for name in idle if not name.endswith("bias")] == []


def test_a_decoder_of_patches_of_sixteen_is_that_of_monai() -> None:
    from monai.networks.nets import UNETR

    frame = Frame(32, 32, 1)
    theirs = UNETR(1, 3, (32, 32, 32), feature_size=4, hidden_size=24, mlp_dim=24, num_heads=12)
    vit = VIT | {"embed_width": 24, "depth": 12, "patch_px": 16, "patch_depth": 16}
    ours = decoder_for(backbone_config(vit).build(frame), frame, 3, 4)
    assert isinstance(ours, decoders.UnetrDecoder)
    assert ours.read == [2, 5, 8]  # after blocks 3, 6 and 9 (Hatamizadeh et al. 2022)
    shapes = [
        sorted(tuple(w.shape) for key, w in net.state_dict().items() if not key.startswith("vit."))
        for net in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


def test_weights_of_monais_auto_encoder_fill_its_unetr_key_by_key() -> None:
    from monai.networks.nets import UNETR, ViTAutoEnc

    size = {"img_size": (32, 32, 32), "hidden_size": 24, "mlp_dim": 24, "num_heads": 12}
    pretrained = ViTAutoEnc(1, patch_size=(16, 16, 16), num_layers=12, **size).state_dict()
    own = {key: w for key, w in pretrained.items() if not key.startswith("conv3d_transpose")}
    net = UNETR(1, 3, feature_size=4, **size)
    report = load_whole(net.vit, own, "ViTAutoEnc")
    assert report.entries == len(own) == 161
    assert len(pretrained) - len(own) == 4
    renamed = {f"module.{key}": weight for key, weight in own.items()}
    with pytest.raises(ArtifactError, match="missing: "):  # the tutorial's filter loads nothing
        load_whole(net.vit, renamed, "ViTAutoEnc")


def test_encoders_that_no_decoder_suits_are_refused_before_anything_is_trained() -> None:
    flat = backbone_config(VIT | {"patch_px": 8, "patch_depth": 4}).build(CUBE)
    with pytest.raises(BackboneError, match=r"one side of 2, 4, 8 or 16 .* got 4x8x8; set"):
        check_decodable(flat, CUBE)
    odd = Frame(18, 18, 1)
    cnn = backbone_config(CNN | {"n_blocks": 3}).build(odd)
    with pytest.raises(BackboneError, match=r"a map of \(5, 5, 5\) cannot be brought to"):
        check_decodable(cnn, odd)


def test_without_monai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melssl.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"segmentation: .*monai.*\[volumes\]"):
        check_decodable(backbone_config(CNN).build(CUBE), CUBE)


def test_the_loss_is_dice_and_cross_entropy_of_every_voxel() -> None:
    model, crops = built("cnn"), batch()
    with torch.no_grad():
        found = model.step(crops).loss
        scores = model.scores(crops.images)
    p, t = scores.softmax(dim=1), F.one_hot(crops.target, 3).movedim(-1, 1).float()
    overlaps = []
    for row in range(2):
        for k in range(3):
            both = (p[row, k] * t[row, k]).sum()
            overlaps.append((2 * both + 1e-5) / (p[row, k].sum() + t[row, k].sum() + 1e-5))
    entropy = -(p.clamp(min=1e-12).log() * t).sum(dim=1).mean()
    expected = 1 - torch.stack(overlaps).mean() + entropy
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def coded(n: int, side: int) -> tuple[Tensor, np.ndarray]:
    """Return volumes whose every voxel tells its place, and masks that are a function of them."""
    places = torch.arange(side**3).view(1, 1, side, side, side).expand(n, -1, -1, -1, -1)
    masks = (places[:, 0] % 7 == 0).to(torch.uint8)
    return places, masks.numpy()


def test_image_and_mask_of_a_crop_are_turned_and_flipped_alike() -> None:
    places, masks = coded(24, 9)
    recipe = CropRecipe(flip=0.5, turn=0.7)
    crops = recipe.sample(masks, (4, 4, 4), np.random.default_rng(0))
    image, mask = crops.cut(places), crops.cut(torch.from_numpy(masks)[:, None])
    assert torch.equal(mask, (image % 7 == 0).to(torch.uint8))
    assert (crops.turns > 0).any()
    assert crops.flip.any()
    assert all(len(one.unique()) == 64 for one in image), "no voxel is shown twice"


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_crops_are_centred_on_foreground_as_often_as_asked(share: float, expected: float) -> None:
    masks = np.zeros((400, 12, 12, 12), dtype=np.uint8)
    masks[:, 2, 9, 5] = 2  # one voxel
    crops = CropRecipe(foreground=share).sample(masks, (4, 4, 4), np.random.default_rng(1))
    cut = crops.cut(torch.from_numpy(masks)[:, None])
    shown = (cut == 2).flatten(1).any(dim=1).float().mean().item()
    by_chance = 0.08  # a background voxel near enough
    assert expected - 0.06 <= shown <= expected + by_chance
    assert (crops.corner >= 0).all()
    assert (crops.corner <= 8).all()


def test_a_volume_without_foreground_gives_crops_all_the_same() -> None:
    masks = np.zeros((3, 8, 8, 8), dtype=np.uint8)
    crops = CropRecipe(foreground=1).sample(masks, (4, 4, 4), np.random.default_rng(0))
    assert crops.corner.shape == (3, 3)


class Balls:
    """Volumes with a bright and a dark ball, and their masks."""

    frame = Frame(20, 20, 1)

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(0)
        grid = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij"), axis=-1)
        self.labels = np.zeros((n, 20, 20, 20), dtype=np.uint8)
        for row in range(n):
            for label, at in ((1, 6), (2, 13)):
                middle = np.array([10, at, 10]) + rng.uniform(-2, 2, 3)
                self.labels[row][np.linalg.norm(grid - middle, axis=-1) < 3] = label
        level = np.array([100, 220, 20])[self.labels] + rng.normal(0, 8, self.labels.shape)
        self.pixels = torch.from_numpy(level.clip(0, 255).astype(np.uint8))[:, None]

    def batch(self, rows: np.ndarray) -> Tensor:
        return self.pixels[torch.from_numpy(rows)]


class BallMasks:
    def __init__(self, balls: Balls) -> None:
        self.balls = balls

    def batch(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.balls.labels[rows])[:, None]


def test_a_small_unet_learns_two_structures_and_sees_whole_volumes_through_its_window() -> None:
    balls, model = Balls(6), built("cnn")
    feed = CropFeed(balls, BallMasks(balls), np.arange(4), CropRecipe(), CUBE.sides, 4)
    spec = TrainSpec(epochs=1, min_steps=45, batch_size=4, lr=0.64)
    log = fit(model, feed, spec, Seed(0), Rank(0, 1, CPU))
    assert log.curves["loss"][-1][1] < 0.6 * log.curves["loss"][0][1]
    drawn = list(labels_of(model, balls, np.array([4, 5]), CUBE.sides, 0.25, CPU))
    for guess, truth in zip(drawn, balls.labels[4:], strict=True):
        assert guess.shape == truth.shape
        for label in (1, 2):
            both = 2 * ((guess == label) & (truth == label)).sum()
            assert both / ((guess == label).sum() + (truth == label).sum()) > 0.7


def test_a_resting_encoder_does_not_learn_and_then_does() -> None:
    balls, model = Balls(2), built("cnn")
    model.frozen_share = 1.0
    before = {k: w.clone() for k, w in model.backbone.state_dict().items()}
    feed = CropFeed(balls, BallMasks(balls), np.arange(2), CropRecipe(), CUBE.sides, 2)
    spec = TrainSpec(epochs=1, min_steps=2, batch_size=2, lr=0.64)
    fit(model, feed, spec, Seed(0), Rank(0, 1, CPU))
    assert all(torch.equal(w, before[k]) for k, w in model.backbone.state_dict().items())
    model.frozen_share = 0.0
    fit(model, feed, spec, Seed(0), Rank(0, 1, CPU))
    assert not all(torch.equal(w, before[k]) for k, w in model.backbone.state_dict().items())


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return RunSpec.parse(RUN)


@pytest.fixture(scope="module")
def prepared(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(spec, tmp_path_factory.mktemp("volumes"))


@pytest.fixture
def judged(spec: RunSpec, tmp_path: Path) -> Callable[[Prepared, str], Path]:
    """Return what runs the stages of a run, and says where the last one left its artifacts."""

    def run(prepared: Prepared, name: str) -> Path:
        inputs: dict = {}
        for stage in stages(spec, prepared):
            out, work = tmp_path / name / stage.kind, tmp_path / f"{name}-work" / stage.kind
            out.mkdir(parents=True)
            work.mkdir(parents=True)
            execute(stage, prepared, Place(inputs=inputs, out=out, work=work))
            inputs = inputs | {stage.kind: out}
        return out

    return run


def test_a_trial_leaves_the_scores_of_every_test_volume_and_accounts_for_its_weights(
    spec: RunSpec, prepared: Prepared, judged: Callable[[Prepared, str], Path]
) -> None:
    out = judged(prepared, "whole")
    scores = MaskScores.load(out / MASK_SCORES)
    tested = prepared.fold(spec).test
    assert set(scores.patient_id) == tested
    assert len(scores.sample_id) == 2 * len(tested), "two volumes of each patient"
    assert scores.structures == ("front", "back")
    kept = json.loads((out / SCORES).read_text())
    assert kept["dice"] == pytest.approx(scores.dice[:, 1:].mean())
    assert json.loads((out / BUDGET).read_text())["n_patients"] == 2
    weights = json.loads((out / FACTS).read_text())["weights"]
    backbone = spec.backbone.build(spec.frame)
    assert weights["loaded"] == weights["of"] == len(backbone.state_dict())
    decoder = decoder_for(backbone, spec.frame, 3, 4)
    assert weights["fresh"] == [f"decoder.{name}" for name in decoder.state_dict()]
    slices = np.load(out / SLICES)
    assert slices["image"].shape == slices["true"].shape == slices["predicted"].shape
    assert list(slices["dice"]) == sorted(slices["dice"], reverse=True)
    shown = Subject(spec=spec, prepared=prepared, weights=out, judged=out)
    tiles = masks(shown)
    assert tiles["row_label"].drop_duplicates().tolist() == ["image", "true", "drawn"]
    assert tiles["column_label"].tolist()[:3] == ["best", "median", "worst"]
    np.testing.assert_allclose(tiles["value"].dropna(), slices["dice"], atol=1e-6)
    with pytest.raises(PictureError, match="no trial of this encoder draws masks"):
        masks(replace(shown, judged=None))


def test_masks_outside_of_the_budget_are_not_shown(
    spec: RunSpec, prepared: Prepared, judged: Callable[[Prepared, str], Path]
) -> None:
    frame, budget = prepared.cohort.frame, set(prepared.budget(spec).sample_ids)
    rows = np.flatnonzero(frame["sample_id"].isin(budget))
    masks = prepared.masks()
    shown = masks.only(rows)
    assert shown.batch(rows).shape == (len(rows), 1, 24, 24, 24)
    others = np.setdiff1d(np.arange(len(frame)), rows)
    for row in others:
        with pytest.raises(SplitError, match="only the labels of the budget"):
            shown.batch(np.array([row]))
    assert (masks.known.sum(), shown.known.sum()) == (len(frame), len(rows))


def test_masks_lie_on_the_pixels_of_their_volumes(prepared: Prepared) -> None:
    images, masks = prepared.images(), prepared.masks()
    rows = np.arange(len(prepared.cohort))
    inside = masks.batch(rows).numpy() > 0
    pixels = images.batch(rows).numpy().astype(float)
    assert inside.any(axis=(1, 2, 3, 4)).all()
    assert pixels[inside].mean() > pixels[~inside].mean() + 20, "structures are bright"
    spacing = np.array([mm for _, mm in masks.each(rows)])
    np.testing.assert_allclose(spacing, 1, atol=0.06)  # whole voxels of about 1 mm


def test_a_mask_store_is_built_once_checked_by_digest_and_names_all_faults(
    spec: RunSpec, prepared: Prepared, tmp_path: Path
) -> None:
    cohort = prepared.cohort
    how = {"size_px": 24, "progress": False}
    store = MaskStore.build(cohort, tmp_path / "a", **how)
    assert MaskStore.open(tmp_path / "a", verify=True).manifest == store.manifest
    damaged = np.load(tmp_path / "a" / "masks.npy")
    damaged[0, 0, 0, 0] += 1
    np.save(tmp_path / "a" / "masks.npy", damaged)
    with pytest.raises(ArtifactError, match="differ from their digest"):
        MaskStore.open(tmp_path / "a", verify=True)
    wrong = replace(cohort, structures=("only one",))
    with pytest.raises(CohortError, match=r"12 mask\(s\) cannot be used"):
        MaskStore.build(wrong, tmp_path / "b", **how)
    with pytest.raises(ArtifactError, match="not a finished mask store"):
        MaskStore.open(tmp_path / "b")


def test_cohorts_without_masks_and_volumes_without_one_are_refused(
    spec: RunSpec, prepared: Prepared
) -> None:
    cohort, protocol = prepared.cohort, Segmentation()
    with pytest.raises(CohortError, match="expected a cohort with masks"):
        protocol.check(spec.backbone, spec.frame, replace(cohort, structures=()))
    bare = cohort.frame.assign(mask=cohort.frame["mask"].where(cohort.frame.index != 0))
    with pytest.raises(CohortError, match="1 of 12 have none"):
        protocol.check(spec.backbone, spec.frame, replace(cohort, frame=bare))


def test_a_segmentation_can_be_timed_by_its_crops(spec: RunSpec, prepared: Prepared) -> None:
    trial = stages(spec, prepared)[-1]
    load = workload(trial, prepared)
    # 2 of the fold's patients, 4 volumes, 4 crops of each: 8 batches of 2
    assert load.units == 8 * 2
    seconds = calibrate(trial, prepared, threads=1)
    assert seconds is not None
    assert seconds > 0


def test_a_window_sees_what_crops_see(prepared: Prepared) -> None:
    images = prepared.images()
    pixels = SomeImages(images, np.array([0])).batch(np.array([0])).float() / 255
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    np.testing.assert_allclose(normalised(pixels), (pixels - 0.449) / 0.226, atol=1e-3)
