"""Every kind of picture shows what it says: of the right encoder, images and patients."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from melssl.backbones.vit import VitBackbone
from melssl.errors import PictureError
from melssl.methods.base import Batch, Method
from melssl.methods.mae import Mae
from melssl.pictures import PICTURES
from melssl.pictures.attention import attention_of, rollout
from melssl.pictures.grad_cam import Scored, last_layer
from melssl.pictures.subject import Subject, seen
from melssl.pictures.tiles import COLUMNS, MOST_PX, Tile, framed
from melssl.pipeline import Rank
from melssl.seeding import Seed
from melssl.training.loop import fit
from melssl.training.trainable import StepResult, Trainable

Make = Callable[..., Subject]
PAINTERS = {"mae": True, "simmim": False, "gmml": True, "sit": True, "sit_2022": True}
PAINTERS |= {"colourisation": False}
OF_A_CNN = ("views", "grad_cam", "filters", "feature_maps", "embedding_map", "neighbours")
OF_A_VIT = ("views", "reconstruction", "attention", "attention_heads", "filters", "feature_maps")


def decoded(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) / 255


def image(rows: pd.DataFrame, row: int, column: int) -> np.ndarray:
    (png,) = rows.loc[(rows["row"] == row) & (rows["column"] == column), "pixels"]
    return decoded(png)


@pytest.fixture(scope="module")
def cnn(subject_of: Make) -> Subject:
    return subject_of("simclr")


@pytest.fixture(scope="module")
def vit(subject_of: Make) -> Subject:
    return subject_of("mae", vit=True)


@pytest.mark.parametrize(
    ("kind", "on_vit"), [(k, False) for k in OF_A_CNN] + [(k, True) for k in OF_A_VIT]
)
def test_a_picture_is_a_frame_and_the_same_twice(
    kind: str, on_vit: bool, cnn: Subject, vit: Subject
) -> None:
    subject = vit if on_vit else cnn
    frame = PICTURES[kind](subject)
    pd.testing.assert_frame_equal(frame, PICTURES[kind](subject))
    if kind != "embedding_map":
        assert tuple(frame.columns) == COLUMNS
        assert not frame.duplicated(["row", "column"]).any()
        assert all(decoded(png).size for png in frame["pixels"])


def test_what_an_encoder_cannot_show_is_said(cnn: Subject, vit: Subject, subject_of: Make) -> None:
    for kind, subject, reason in (
        ("reconstruction", cnn, "simclr paints nothing"),
        ("attention", cnn, "no attention"),
        ("grad_cam", vit, "look at its attention"),
        ("views", subject_of("no_pretext"), "saw no view"),
    ):
        with pytest.raises(PictureError, match=reason):
            PICTURES[kind](subject)


def test_a_cohort_of_one_class_has_no_grad_cam(
    cnn: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = np.zeros(len(cnn.frame), dtype=np.int64)
    monkeypatch.setattr(Subject, "targets", property(lambda _: alike))
    with pytest.raises(PictureError, match="all labels are of one"):
        PICTURES["grad_cam"](cnn)


def test_images_are_of_test_patients_one_to_a_patient(cnn: Subject) -> None:
    rows = cnn.shown()
    tested = cnn.prepared.fold(cnn.spec).test
    assert len(rows) == 8
    assert len(set(cnn.patients[rows])) == 8
    assert set(cnn.patients[cnn.tested]) <= tested
    assert sorted(set(cnn.targets[rows])) == [0, 1]


@pytest.mark.parametrize("name", PAINTERS)
def test_what_a_method_was_not_asked_for_is_left_as_it_is(name: str, subject_of: Make) -> None:
    subject = subject_of(name, vit=PAINTERS[name])
    frame = PICTURES["reconstruction"](subject)
    assert list(dict.fromkeys(frame["row_label"])) == ["image", "shown", "painted"]
    truth, shown, painted = (image(frame, row, 0) for row in range(3))
    assert np.abs(truth - subject.pixels(subject.shown())[0]).max() < 0.01
    assert np.abs(shown - truth).max() > 0.05
    if name not in ("sit", "colourisation"):  # those answer for every pixel
        asked = (shown != truth).any(axis=2)
        assert np.abs(painted - truth)[~asked].max() < 0.01
        assert 0.2 < asked.mean() < 0.9


def test_a_perfect_mae_paints_the_image_itself(
    vit: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Mae._predicted

    def knowing(self: Mae, images: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return before(self, images, batch)[0], self.target(images)

    monkeypatch.setattr(Mae, "_predicted", knowing)
    frame = PICTURES["reconstruction"](vit)
    for column in range(8):
        assert np.abs(image(frame, 2, column) - image(frame, 0, column)).max() < 0.02


class Recorder(Trainable[Batch]):
    """Trains nothing and keeps the views of one sample."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.place, self.views = place, list[tuple[torch.Tensor, ...]]()

    def step(self, batch: Batch) -> StepResult:
        for index in (batch.place == self.place).nonzero()[:, 0]:
            self.views.append(tuple(view[index : index + 1] for view in batch.views))
        return StepResult(loss=self.weight**2)


def test_views_are_those_that_training_saw(cnn: Subject) -> None:
    spec = cnn.spec.replace(pretraining=cnn.spec.pretraining.replace(epochs=3))
    subject = Subject(spec=spec, prepared=cnn.prepared, weights=cnn.weights)
    frame = PICTURES["views"](subject)
    place = list(subject.pool.sample_ids).index(frame["sample_id"].iloc[0])
    recorder = Recorder(place)
    feed = subject.pool.feed(spec, subject.prepared)
    rank = Rank(0, 1, torch.device("cpu"))
    fit(recorder, feed, spec.pretraining, Seed(spec.seed).child("pretrain"), rank)
    shown = frame[frame["column_label"] != "image"]
    assert len(shown) == 2 * len(recorder.views) > 0
    for (_, column), views in zip(
        enumerate(sorted(set(shown["column"]))), recorder.views, strict=True
    ):
        for row, (view, recipe) in enumerate(zip(views, feed.recipes, strict=True)):
            assert np.abs(image(frame, row, column) - seen(view, recipe)[0].clip(0, 1)).max() < 0.01


def test_attention_is_what_the_blocks_use(vit: Subject) -> None:
    backbone = vit.backbone
    assert isinstance(backbone, VitBackbone)
    images = vit.views(vit.shown(2))
    with torch.no_grad():
        blocks = attention_of(backbone, images)
        block = backbone.vit.blocks[0]
        tokens = block.norm1(backbone._embed(images))
        q, k, _ = block.attn.qkv(tokens).reshape(2, 17, 3, 2, 8).permute(2, 0, 3, 1, 4)
        own = (q @ k.transpose(-2, -1) * 8**-0.5).softmax(dim=-1)
    torch.testing.assert_close(blocks[0], own)
    assert len(blocks) == 2
    torch.testing.assert_close(rollout(blocks).sum(dim=-1), torch.ones(2, 17))
    identity = torch.eye(17).expand(2, 2, 17, 17)
    torch.testing.assert_close(rollout([identity, identity]), torch.eye(17).expand(2, 17, 17))


def test_grad_cam_of_pooled_maps_is_the_probes_own_reading(cnn: Subject) -> None:
    """With a mean over places, ``d s / d A_k`` is the weight of channel k at every place."""
    frame, rows = PICTURES["grad_cam"](cnn), cnn.shown()
    scored = Scored(cnn).eval()
    with torch.no_grad():
        views = cnn.views(rows)
        maps = cnn.backbone.features(views)[-1]
        weight = scored.weight[1] - 0
        raw = torch.relu((weight[:, None, None] * maps).sum(dim=1))
        chance = scored(views).softmax(dim=1)[:, 1]
    for column in range(8):
        tile = frame[(frame["row"] == 1) & (frame["column"] == column)].iloc[0]
        expected = (raw[column] / raw[column].max()).numpy()
        assert np.abs(decoded(tile["heat"]) - expected).max() < 0.01
        assert tile["value"] == pytest.approx(float(chance[column]), abs=1e-5)
    assert last_layer(cnn.backbone, views[:1]) is not None


def test_neighbours_are_never_of_the_same_patient_nor_two_of_one(cnn: Subject) -> None:
    frame = PICTURES["neighbours"](cnn)
    patient = cnn.frame.set_index("sample_id")["patient_id"]
    for _, row in frame.groupby("row"):
        who = list(row["sample_id"].map(patient))
        assert len(who) == len(set(who)) == 7
        assert row["value"].iloc[1:].is_monotonic_decreasing


def test_the_map_holds_every_image_once_in_each_projection(cnn: Subject) -> None:
    frame = PICTURES["embedding_map"](cnn)
    assert set(frame["projection"]) == {"PCA", "t-SNE"}
    for _, rows in frame.groupby("projection"):
        assert sorted(rows["sample_id"]) == sorted(cnn.names(cnn.tested))
        assert rows[["x", "y"]].to_numpy().min() == 0
        assert rows[["x", "y"]].to_numpy().max() == 1


def test_the_digest_is_that_of_the_weights(cnn: Subject, subject_of: Make) -> None:
    assert cnn.digest != subject_of("byol").digest
    assert len(cnn.digest) == 64


def test_tiles_are_small_and_nothing_shown_is_grey() -> None:
    large = np.full((300, 300, 3), 0.25)
    large[:4] = np.nan
    (row,) = framed([Tile(row=0, column=0, image=large)]).to_dict("records")
    made = decoded(row["pixels"])
    assert max(made.shape) <= MOST_PX
    assert made[0, 0] == pytest.approx(0.5, abs=0.01)
    assert made[-1, -1] == pytest.approx(0.25, abs=0.01)


def test_a_method_that_paints_nothing_says_so(subject_of: Make) -> None:
    assert Method.reconstruct(subject_of("simclr").method, None) is None  # type: ignore[arg-type]
