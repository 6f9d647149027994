"""Colourisation: bins, weights and decoding against their formulas; colours never reach the net."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from melssl.backbones import backbone_config
from melssl.data.lab import lab_to_srgb, srgb_to_lab
from melssl.data.views import VIEW_PRESETS
from melssl.methods.base import Batch, PoolFacts
from melssl.methods.colour_bins import (
    annealed_mean,
    fitted_bins,
    possible_bins,
    rebalanced,
    soft_encoded,
)
from melssl.methods.colourisation import Colourisation, ColourisationConfig, colours, monochrome

CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
PX = 16


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 4, px: int = PX) -> Tensor:
    """Return images in 0..1 of a few smooth colours."""
    coarse = torch.rand(n, 3, 4, 4, generator=rng())
    return torch.nn.functional.interpolate(coarse, (px, px), mode="nearest")


def colourisation(image_px: int = PX, **changes: object) -> Colourisation:
    torch.manual_seed(0)
    config = ColourisationConfig(n_bins=12, decoder_width=8).replace(**changes)
    facts = PoolFacts(n_samples=8, n_patients=4, image_px=image_px)
    return Colourisation(config, backbone_config(CNN).build(image_px), facts)


def batch(images: Tensor) -> Batch:
    place = torch.arange(len(images))
    return Batch(views=(images,), place=place, patient=place, rng=rng())


def test_possible_bins_are_a_grid_of_step_10_around_grey() -> None:
    bins = possible_bins()
    assert len({tuple(b) for b in bins.tolist()}) == 23**2
    assert (bins % 10 == 0).all()
    assert bins.abs().max() == 110
    assert bins[0].tolist() == [0, 0]


def test_the_most_frequent_bins_of_the_cohort_are_chosen_with_their_shares() -> None:
    ab = torch.tensor([[12.0, 29.0]] * 6 + [[-31.0, 2.0]] * 3 + [[14.0, 26.0]])
    bins, share = fitted_bins(ab, 2)
    assert bins.tolist() == [[10, 30], [-30, 0]]
    assert share.tolist() == pytest.approx([0.7, 0.3])
    one, everything = fitted_bins(ab, 1)
    assert (one.tolist(), everything.tolist()) == ([[10, 30]], [1])  # others go to the nearest


def test_empty_bins_that_fill_the_head_lie_around_the_cohorts_mean_colour() -> None:
    bins, share = fitted_bins(torch.tensor([[41.0, 20.0]] * 5), 5)
    assert bins[0].tolist() == [40, 20]
    assert {tuple(b) for b in bins.tolist()} == {(40, 20), (50, 20), (30, 20), (40, 30), (40, 10)}
    assert share.tolist() == [1, 0, 0, 0, 0]


def test_a_soft_target_has_five_gaussian_shares() -> None:
    ab, bins = 40 * torch.randn(7, 2, generator=rng()), possible_bins()[:60]
    shares = soft_encoded(ab, bins).double().numpy()
    for colour, row in zip(ab.tolist(), shares, strict=True):
        squared = [(colour[0] - a) ** 2 + (colour[1] - b) ** 2 for a, b in bins.tolist()]
        nearest = sorted(range(60), key=squared.__getitem__)[:5]
        weight = [math.exp(-(squared[q] - squared[nearest[0]]) / (2 * 5**2)) for q in nearest]
        expected = np.zeros(60)
        expected[nearest] = np.array(weight) / sum(weight)
        assert row == pytest.approx(expected, abs=1e-5)


def test_a_colour_far_from_every_bin_still_has_a_target() -> None:
    shares = soft_encoded(torch.tensor([[5000.0, -5000.0]]), possible_bins()[:20])
    assert torch.isfinite(shares).all()
    assert shares.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("uniform_share", [0.0, 0.5, 1.0])
def test_rare_colours_weigh_more_as_in_the_formula(uniform_share: float) -> None:
    bins = torch.tensor([[0.0, 0.0], [10.0, 0.0], [50.0, 50.0]])
    share = torch.tensor([0.7, 0.2, 0.1])
    smooth = []
    for q in bins.tolist():
        kernel = [math.exp(-((q[0] - a) ** 2 + (q[1] - b) ** 2) / 50) for a, b in bins.tolist()]
        smooth.append(sum(k * p for k, p in zip(kernel, share.tolist(), strict=True)))
    smooth = [p / sum(smooth) for p in smooth]
    weight = [1 / ((1 - uniform_share) * p + uniform_share / 3) for p in smooth]
    mean = sum(p * w for p, w in zip(smooth, weight, strict=True))
    got = rebalanced(share, bins, uniform_share)
    assert got.tolist() == pytest.approx([w / mean for w in weight], rel=1e-5)
    if uniform_share == 1:
        assert got.tolist() == pytest.approx([1, 1, 1])


def test_the_annealed_mean_lies_between_the_mean_and_the_mode() -> None:
    scores, bins = torch.randn(5, 9, generator=rng()), possible_bins()[:9]
    for row, got in zip(scores.tolist(), annealed_mean(scores, bins).tolist(), strict=True):
        z = np.exp(row) / np.exp(row).sum()
        sharp = np.exp(np.log(z) / 0.38) / np.exp(np.log(z) / 0.38).sum()
        assert got == pytest.approx((sharp[:, None] * bins.numpy()).sum(0), abs=1e-4)
    mean = scores.softmax(dim=1) @ bins
    torch.testing.assert_close(annealed_mean(scores, bins, 1.0), mean)
    torch.testing.assert_close(annealed_mean(scores, bins, 1e-4), bins[scores.argmax(dim=1)])


def test_the_loss_is_the_weighted_cross_entropy_of_soft_targets() -> None:
    method, images = colourisation(), pictures()
    method.look(images)
    result = method.step(batch(images))
    with torch.no_grad():
        lab = srgb_to_lab(images)
        scores, ab = method.scores(lab).double(), colours(lab)
    losses, right, weights = [], [], []
    for i in range(4):
        for y in range(4):
            for x in range(4):
                row = scores[i, :, y, x].tolist()
                log_sum = math.log(sum(map(math.exp, row)))
                target = soft_encoded(ab[i, :, y, x][None], method.bins)[0].tolist()
                true = int(np.argmax(target))
                weight = method.weight[true].item()
                wrong = sum(z * (log_sum - s) for z, s in zip(target, row, strict=True))
                losses.append(weight * wrong)
                weights.append(weight)
                right.append(weight * (int(np.argmax(row)) == true))
    assert result.loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert result.parts["accuracy"].item() == pytest.approx(sum(right) / sum(weights), rel=1e-5)


def test_the_chance_is_what_one_colour_everywhere_would_score() -> None:
    method, images = colourisation(), pictures()
    method.look(images)
    ab = colours(srgb_to_lab(images)).movedim(1, 3).flatten(0, 2)
    true = soft_encoded(ab, method.bins).argmax(dim=1)
    weight = method.weight[true]
    best = max(((true == q) * weight).sum() / weight.sum() for q in range(12))
    assert method.chance == pytest.approx(best.item(), rel=1e-5)


def test_what_was_fitted_is_saved() -> None:
    method, other = colourisation(), colourisation()
    method.look(pictures())
    assert not torch.equal(method.bins, other.bins)
    other.load_state_dict(method.state_dict())
    assert torch.equal(method.bins, other.bins)
    assert torch.equal(method.weight, other.weight)


def test_the_encoder_sees_lightness_alone() -> None:
    method, lab = colourisation().eval(), srgb_to_lab(pictures())
    other = lab.clone()
    other[:, 1:] = -other[:, 1:]
    assert torch.equal(method.scores(lab), method.scores(other))
    (plain,) = Colourisation.recipes(method.config, VIEW_PRESETS["medical"])
    assert (plain.mean, plain.std) == ((0, 0, 0), (1, 1, 1))
    assert (plain.jitter, plain.grayscale, plain.solarise, plain.erase) == (0, 0, 0, 0)


def test_what_the_encoder_sees_has_the_images_lightness_and_the_cohorts_mean_colour() -> None:
    images = 0.4 + 0.2 * pictures()
    method, lab = colourisation(), srgb_to_lab(images)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    grey = monochrome(lab, method.tint) * std + mean
    torch.testing.assert_close(grey, grey[:, :1].expand(-1, 3, -1, -1), atol=1e-4, rtol=0)
    method.look(images)
    tinted = srgb_to_lab(monochrome(lab, method.tint) * std + mean)
    torch.testing.assert_close(tinted[:, 0], lab[:, 0], atol=1e-2, rtol=0)
    average = lab[:, 1:].mean(dim=(0, 2, 3)).view(1, 2, 1, 1).expand_as(lab[:, 1:])
    torch.testing.assert_close(tinted[:, 1:], average, atol=1e-2, rtol=0)


def test_a_picture_is_painted_with_its_own_lightness() -> None:
    method, images = colourisation().eval(), 0.3 + 0.4 * pictures()
    method.look(images)
    with torch.no_grad():
        method.decoder.score.weight.zero_()
        method.decoder.score.bias.copy_(torch.where(torch.arange(12) == 0, 50.0, 0.0))
    painted = method.colourised(images)
    lab = srgb_to_lab(images)
    lab[:, 1:] = method.bins[0].view(1, 2, 1, 1)
    torch.testing.assert_close(painted, lab_to_srgb(lab), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "backbone",
    [CNN, {"family": "small_vit", "patch_px": 8, "embed_width": 16, "depth": 1, "heads": 2}],
    ids=["cnn", "vit"],
)
@pytest.mark.parametrize("image_px", [16, 40])
def test_a_batch_of_two_in_half_precision_gives_a_finite_loss(
    backbone: dict[str, object], image_px: int
) -> None:
    facts = PoolFacts(n_samples=8, n_patients=4, image_px=image_px)
    method = Colourisation(ColourisationConfig(), backbone_config(backbone).build(image_px), facts)
    with torch.autocast("cpu", torch.bfloat16):
        result = method.step(batch(pictures(2, image_px)))
    assert method.scores(torch.zeros(2, 3, image_px, image_px)).shape[2:] == (image_px // 4,) * 2
    assert result.loss.dtype == torch.float32
    assert torch.isfinite(result.loss)


def test_black_and_white_pictures_can_be_fitted_and_learned_from() -> None:
    method = colourisation()
    images = torch.cat([torch.zeros(2, 3, PX, PX), torch.ones(2, 3, PX, PX)])
    method.look(images)
    assert torch.isfinite(method.weight).all()
    assert torch.isfinite(method.step(batch(images)).loss)
