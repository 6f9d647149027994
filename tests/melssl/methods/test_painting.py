"""Painting and the volume auto-encoder: what is noise, what is moved, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS
from melssl.frame import Frame
from melssl.methods.base import Batch, PoolFacts
from melssl.methods.volumes.painting import PaintingParams, holes, paint, sample_painting
from melssl.methods.volumes.volume_autoencoder import (
    TwoStepDecoder,
    VolumeAutoencoder,
    VolumeAutoencoderConfig,
)

FRAME = Frame(side_px=12, depth=8, channels=2)
VIT = {"family": "small_vit", "patch_px": 4, "embed_width": 16, "depth": 1, "heads": 2}
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
CONFIG = VolumeAutoencoderConfig(spot_side=0.4)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def volumes(n: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, *FRAME.shape, generator=rng(seed))


def drawn(n: int = 4, **changes: object) -> PaintingParams:
    return sample_painting(CONFIG.replace(**changes), n, FRAME.sides, rng(4))


def batch(n: int = 3, crops: int = 2) -> Batch:
    place = torch.arange(n)
    views = tuple(volumes(n, seed) for seed in range(crops))
    return Batch(views=views, place=place, patient=place, rng=rng(5))


def method(net: dict[str, object] = VIT, **changes: object) -> VolumeAutoencoder:
    torch.manual_seed(0)
    facts = PoolFacts(n_samples=8, n_patients=4, image_px=12, depth=8, channels=2)
    return VolumeAutoencoder(CONFIG.replace(**changes), backbone_config(net).build(FRAME), facts)


def inside(box: list[int], place: tuple[int, ...]) -> bool:
    corner, length = box[:3], box[3:]
    return all(c <= p < c + n for c, n, p in zip(corner, length, place, strict=True))


def test_holes_become_noise_and_in_out_painting_all_but_holes() -> None:
    params, images = replace(drawn(), shuffled=torch.zeros(4, dtype=torch.bool)), volumes()
    painted = paint(images, params)
    assert params.outer.any()
    assert not params.outer.all()
    for index in range(4):
        boxes = params.boxes[index].tolist()
        for place in np.ndindex(*FRAME.sides):
            hidden = any(inside(box, place) for box in boxes) != bool(params.outer[index])
            assert bool(painted.hidden[(index, *place)]) == hidden
            seen = painted.images[(index, slice(None), *place)]
            assert torch.equal(seen, images[(index, slice(None), *place)]) != hidden
        noise = painted.images[index][:, painted.hidden[index]]
        assert images[index].min() <= noise.min() < noise.max() <= images[index].max()


def test_shuffling_is_that_of_the_drawn_cubes_one_after_another() -> None:
    params, images = drawn(shuffle=1), volumes()
    still = paint(images, replace(params, shuffled=torch.zeros(4, dtype=torch.bool))).images
    expected = still.clone()
    for index in range(4):
        for spot, order in zip(params.spots[index], params.orders[index], strict=True):
            corner = spot.tolist()
            window = tuple(slice(c, c + n) for c, n in zip(corner, params.spot_px, strict=True))
            before = expected[(index, slice(None), *window)].clone()
            after = before.flatten(1)[:, order].view(before.shape)
            expected[(index, slice(None), *window)] = after
    moved = paint(images, params).images
    assert torch.equal(moved, expected)
    assert not torch.equal(moved, still)
    assert torch.equal(moved.flatten(2).sort().values, still.flatten(2).sort().values)


def test_at_96_voxels_the_defaults_are_those_of_monais_tutorial() -> None:
    config = VolumeAutoencoderConfig()
    params = sample_painting(config, 400, (96, 96, 96), rng())
    assert params.boxes.shape == (400, 6, 6)
    assert params.spots.shape == (400, 10, 3)
    assert params.spot_px == (8, 8, 8)
    for outer, (least, most) in ((False, (5, 32)), (True, (20, 64))):
        lengths = params.boxes[params.outer == outer][..., 3:]
        assert (lengths.min(), lengths.max()) == (least, most)
        assert (lengths.float().mean() - (least + most) / 2).abs() < 1
    assert (params.outer.float().mean() - 0.5).abs() < 0.1
    assert (params.shuffled.float().mean() - 0.8).abs() < 0.1
    corner, length = params.boxes.chunk(2, dim=-1)
    assert corner.min() == 0
    assert (corner + length).max() == 96


def test_a_part_of_the_views_is_painted_as_it_is_among_all() -> None:
    params, images = drawn(8), volumes(8)
    whole = paint(images, params)
    rows = torch.tensor([5, 2, 6])
    part = paint(images[rows], params.take(rows))
    assert torch.equal(part.images, whole.images[rows])
    assert torch.equal(part.hidden, whole.hidden[rows])


def test_holes_are_the_union_of_boxes_in_two_dimensions_too() -> None:
    boxes = torch.tensor([[[0, 1, 2, 2], [3, 3, 1, 1]]])
    assert holes(boxes, (4, 4))[0].int().tolist() == [
        [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1],
    ]  # fmt: skip


def nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    z = np.concatenate([first, second])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n, losses = len(first), []
    for i in range(2 * n):
        scores = np.array([z[i] @ z[k] / temperature for k in range(2 * n) if k != i])
        own = z[i] @ z[(i + n) % (2 * n)] / temperature
        losses.append(scores.max() + math.log(np.exp(scores - scores.max()).sum()) - own)
    return float(np.mean(losses))


@pytest.mark.parametrize("net", [VIT, CNN], ids=["vit", "cnn"])
@pytest.mark.parametrize("temperature", [0.05, 0.005])
def test_the_loss_is_the_error_of_the_first_view_times_one_and_the_contrast(
    net: dict[str, object], temperature: float
) -> None:
    auto = method(net, temperature=temperature).double().eval()
    given = replace(batch(), views=tuple(view.double() for view in batch().views))
    result = auto.step(given)
    crops = torch.cat(given.views)
    stream = rng(5)
    with torch.no_grad():
        made = [
            auto.repaired(paint(crops, sample_painting(auto.config, 6, FRAME.sides, stream)).images)
            for _ in range(2)
        ]
    first, second = (each.flatten(1).numpy() for each in made)
    error = float(np.mean(np.abs(first - crops.flatten(1).numpy())))
    contrast = nt_xent(first, second, temperature)
    assert result.loss.item() == pytest.approx(error + contrast * error, rel=1e-4)
    assert result.parts["reconstruction"].item() == pytest.approx(error, rel=1e-5)
    assert result.parts["contrastive"].item() == pytest.approx(contrast, rel=1e-3)


def test_at_the_published_temperature_of_a_two_hundredth_the_loss_is_finite_in_half_precision() -> (
    None
):
    auto = method(temperature=0.005)
    with torch.autocast("cpu", torch.bfloat16):
        loss = auto.step(batch()).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(w.grad).all() for w in auto.parameters() if w.grad is not None)


def test_several_processes_paint_what_one_would() -> None:
    auto, whole = method(), batch(4)
    parts = []
    for first in (0, 2):
        views = tuple(view[first : first + 2] for view in whole.views)
        part = replace(
            whole, views=views, place=whole.place[first : first + 2], n_whole=4, first=first,
            rng=rng(5),
        )  # fmt: skip
        parts.append(auto.views(torch.cat(views), part)[1].unflatten(0, (2, 2)))
    together = auto.views(torch.cat(whole.views), replace(whole, rng=rng(5)))[1]
    assert torch.equal(torch.cat(parts, dim=1).flatten(0, 1), together)


@pytest.mark.parametrize(
    ("place", "first", "second"),
    [((16, 16, 16), 4, 4), ((8, 8, 8), 4, 2), ((4, 4, 4), 2, 2), ((5, 5, 5), 5, 1)],
)
def test_a_place_is_laid_out_in_two_steps_as_even_as_can_be(
    place: tuple[int, ...], first: int, second: int
) -> None:
    decoder = TwoStepDecoder(8, 4, 1, place)
    assert [layer.stride for layer in decoder.layers] == [(first,) * 3, (second,) * 3]
    features = torch.randn(1, 8, 2, 2, 2, generator=rng())
    changed = features.clone()
    changed[0, :, 1, 0, 1] += 1
    moved = (decoder(features) != decoder(changed))[0, 0]
    assert moved.shape == tuple(2 * side for side in place)
    side = place[0]
    assert moved[side:, :side, side:].any()
    moved[side:, :side, side:] = False
    assert not moved.any()


def test_crops_keep_the_resolution_of_the_volume_and_its_brightness() -> None:
    recipes = VolumeAutoencoder.recipes(CONFIG, VIEW_PRESETS["medical"])
    assert len(recipes) == 2
    assert all(r.native_scale and r.jitter == r.blur == r.erase == 0 for r in recipes)
