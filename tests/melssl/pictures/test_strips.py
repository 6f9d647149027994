"""Pictures of clips: frames in the order asked, cubes, made clips, futures, what changes most."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from melssl.encoders import build_method
from melssl.errors import PictureError
from melssl.pictures import PICTURES
from melssl.pictures.strips import frames_seen
from melssl.pictures.subject import Subject
from melssl.pictures.tiles import COLUMNS
from melssl.pool import pool
from melssl.prepared import Prepared, prepare
from melssl.spec import RunSpec
from melssl.training.checkpoint import save_tensors

KINDS = {
    "clip_orders": {"name": "order_verification"},
    "space_time_cubes": {"name": "space_time_puzzle"},
    "made_clips": {"name": "video_gan", "noise_width": 4, "generator_width": 2},
    "futures": {"name": "video_lstm", "target_px": 8, "decoder_width": 8},
    "temporal_saliency": {"name": "simclr"},
}
SPEC = {
    "cohort": {"source": "synthetic_clips", "n_patients": 12, "n_frames": 8, "image_px": 16},
    "image_px": 16,
    "folds": {"n_folds": 2},
    "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(RunSpec.parse(SPEC), tmp_path_factory.mktemp("clips"))


@pytest.fixture
def subject_of_clips(clips: Prepared, tmp_path: Path) -> Callable[..., Subject]:
    def make(method: dict[str, object]) -> Subject:
        spec = RunSpec.parse(SPEC | {"method": method})
        built = build_method(spec, pool(spec, clips), 2)
        if method["name"] == "video_gan":  # as if it had seen clips
            built.low.fill_(-2)
            built.high.fill_(2)
        save_tensors(tmp_path / "weights.safetensors", built.state_dict(), {})
        return Subject(spec=spec, prepared=clips, weights=tmp_path / "weights.safetensors")

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_strip_is_a_frame_and_the_same_twice(
    kind: str, subject_of_clips: Callable[..., Subject]
) -> None:
    subject = subject_of_clips(KINDS[kind])
    frame = PICTURES[kind](subject)
    assert tuple(frame.columns) == COLUMNS
    assert frame.equals(PICTURES[kind](subject))
    assert not frame.duplicated(["row", "column"]).any()
    for png in frame["pixels"]:
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
        assert image.size
    other = "temporal_saliency" if kind != "temporal_saliency" else "clip_orders"
    if kind == "temporal_saliency":
        assert np.allclose(frame.groupby("row")["value"].sum(), 1, atol=1e-4)
        with pytest.raises(PictureError, match="shuffles no frames"):
            PICTURES[other](subject)
    if kind == "clip_orders":
        assert (frame.groupby("row")["value"].min() == 0).all()  # one of each from outside


def test_frames_are_seen_as_they_are_stored(clips: Prepared) -> None:
    spec = RunSpec.parse(SPEC)
    subject = Subject(spec=spec, prepared=clips, weights=Path("none"))
    rows = np.arange(2)
    stored = clips.images().batch(rows)[:, 0] / 255
    seen = frames_seen(subject.views(rows))
    assert np.allclose(seen, stored.numpy(), atol=1e-5)
    assert frames_seen(torch.zeros(1, 3, 4, 8, 8)).shape == (1, 4, 8, 8, 3)
