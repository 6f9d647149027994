"""Corruption covers what it should with what it should; GMML and SiT equal their formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from melssl.backbones import backbone_config
from melssl.backbones.base import TokenBackbone
from melssl.data.views import VIEW_PRESETS
from melssl.errors import BackboneError, SpecError
from melssl.methods.base import Batch, PoolFacts
from melssl.methods.corruption import (
    SIDES,
    CorruptionConfig,
    CorruptionParams,
    boxes_needed,
    corrupt,
    first_box,
    sample_corruption,
)
from melssl.methods.gmml import Gmml, GmmlConfig
from melssl.methods.masking import MaskShape
from melssl.methods.pixel_decoder import PixelDecoder, as_map, hidden_l1
from melssl.methods.sit import Sit, SitConfig, turned, uncertainty_weighted
from melssl.methods.sit_2022 import Sit2022, Sit2022Config
from melssl.training.trainable import Progress

PX, PATCH = 32, 8
VIT = {"family": "small_vit", "patch_px": PATCH, "embed_width": 32, "depth": 2, "heads": 2}
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 3}
FACTS = PoolFacts(n_samples=8, n_patients=4, image_px=PX)
SHAPES: tuple[MaskShape, ...] = ("group", "block", "random")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(config: type[CorruptionConfig] = GmmlConfig, **changes: object) -> CorruptionConfig:
    return config.parse({"name": config.model_fields["name"].default, **changes})


def batch(n: int = 4, n_views: int = 1, px: int = PX, seed: int = 0) -> Batch:
    views = torch.randn(n_views, n, 3, px, px, generator=rng(seed))
    place = torch.arange(n)
    return Batch(views=tuple(views), place=place, patient=place, rng=rng(seed + 1))


# corruption


def first_by_loops(boxes: Tensor, side: int) -> np.ndarray:
    """Return the number of the first box on each pixel, the slow way."""
    first = np.full((len(boxes), side, side), boxes.shape[1])
    for image in range(len(boxes)):
        for row in range(side):
            for column in range(side):
                for box, (top, left, height, width) in enumerate(boxes[image].tolist()):
                    if top <= row < top + height and left <= column < left + width:
                        first[image, row, column] = box
                        break
    return first


def pieces(mask: np.ndarray) -> list[int]:
    """Return the sizes of the connected pieces (4 neighbours) of a mask."""
    left, sizes = {(int(r), int(c)) for r, c in zip(*mask.nonzero(), strict=True)}, []
    while left:
        waiting, size = [left.pop()], 0
        while waiting:
            row, column = waiting.pop()
            size += 1
            beside = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}
            waiting += beside & left
            left -= beside
        sizes.append(size)
    return sizes


@pytest.mark.parametrize("low_precision", [False, True])
def test_the_first_box_of_every_pixel_is_found_exactly(low_precision: bool) -> None:
    boxes = torch.randint(-3, 14, (2, 150, 4), generator=rng())  # more than one chunk
    boxes[..., 2:] = boxes[..., 2:].abs() // 3
    with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
        first = first_box(boxes, 12)
    np.testing.assert_array_equal(first.numpy(), first_by_loops(boxes, 12))
    assert (first == 150).any()  # some pixels no box has reached
    assert first_box(torch.tensor([[[0, 0, 4, 4]] * 60]), 4).eq(0).all()  # the sum never rounds up


def test_so_many_boxes_are_taken_as_cover_the_share() -> None:
    first = torch.tensor([[[0, 0], [2, 3]]])  # box 1 covers nothing new, a pixel has no box
    shares = torch.tensor([[0.0], [0.4], [0.5], [0.6], [0.75], [0.9]])
    assert boxes_needed(first, shares, 3)[:, 0].tolist() == [0, 1, 1, 3, 3, 3]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.75, 0.95])
def test_the_area_corrupted_is_the_share_drawn_and_at_most_one_box_more(
    shape: MaskShape, ratio: float
) -> None:
    params = sample_corruption(plain(mask_ratio=ratio, mask_shape=shape), 64, PX, 4, rng())
    share = corrupt(torch.randn(64, 3, PX, PX), params).hidden.float().mean(dim=(1, 2))
    largest = 4**2 / PX**2 if shape == "random" else (SIDES[1] + 2 / PX) ** 2
    assert (share >= params.total - 1e-6).all()
    assert (share <= params.total + largest).all()
    assert params.total.min() >= min(0.5, ratio)
    assert params.total.max() <= ratio
    assert (params.total.std() > 0.05) == (ratio > 0.5)  # published: from a half to the ratio


@pytest.mark.parametrize("shape", SHAPES)
def test_only_groups_ignore_the_borders_of_patches(shape: MaskShape) -> None:
    params = sample_corruption(plain(mask_shape=shape), 32, PX, PATCH, rng())
    hidden = corrupt(torch.randn(32, 3, PX, PX), params).hidden
    patches = hidden.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).float().mean(dim=(-2, -1))
    cut = ((patches > 0) & (patches < 1)).float().mean()
    assert cut > 0.5 if shape == "group" else cut == 0


def test_groups_are_connected_pieces_of_some_size() -> None:
    params = sample_corruption(plain(mask_ratio=0.4), 8, 64, PATCH, rng())
    hidden = corrupt(torch.randn(8, 3, 64, 64), params).hidden.numpy()
    smallest = (SIDES[0] * 64 / 2) ** 2 / 2  # a group's centre lies inside: a quarter is seen
    for mask in hidden:
        assert min(pieces(mask)) >= smallest
        scattered = rng_numpy().permutation(mask.ravel()).reshape(mask.shape)
        assert min(pieces(scattered)) < smallest


def rng_numpy() -> np.random.Generator:
    return np.random.default_rng(0)


def test_what_was_corrupted_is_alien_noise_or_zero_in_the_shares_asked_for() -> None:
    images = 5 + torch.rand(128, 3, PX, PX, generator=rng())
    config = plain(noise_share=0.3, alien_share=0.5)
    out = corrupt(images, sample_corruption(config, 128, PX, PATCH, rng()))
    share = [part.float().mean() / out.ratio for part in (out.alien, out.noise)]
    assert share[0] == pytest.approx(0.5, abs=0.05)
    assert share[1] == pytest.approx(0.3, abs=0.05)
    nothing = out.hidden & ~out.alien & ~out.noise
    assert not (out.alien & out.noise).any()
    assert (out.images.movedim(1, -1)[nothing] == 0).all()
    assert torch.equal(out.images.movedim(1, -1)[~out.hidden], images.movedim(1, -1)[~out.hidden])
    grain = out.images.movedim(1, -1)[out.noise]
    assert grain.mean() == pytest.approx(0, abs=0.02)
    assert grain.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_alien_content_is_that_of_another_image_at_the_same_place(n: int) -> None:
    images = torch.arange(n * 3 * PX * PX, dtype=torch.float).view(n, 3, PX, PX)  # all different
    params = sample_corruption(plain(noise_share=0, alien_share=1), n, PX, PATCH, rng())
    out = corrupt(images, params)
    assert (params.donor != torch.arange(n)).all()
    assert torch.equal(out.alien, out.hidden)
    owner = (out.images / (3 * PX * PX)).long()[:, 0]
    for index in range(n):
        assert (owner[index][out.alien[index]] == params.donor[index]).all()
        assert (owner[index][~out.hidden[index]] == index).all()
        source = images[params.donor[index]][:, out.alien[index]]
        assert torch.equal(out.images[index][:, out.alien[index]], source)
    assert n == 2 or len(set(params.donor.tolist())) > 1


def test_every_other_image_may_be_the_donor() -> None:
    donors = {
        int(sample_corruption(plain(), 4, PX, PATCH, rng(seed)).donor[1]) for seed in range(40)
    }
    assert donors == {0, 2, 3}


def test_an_image_alone_is_corrupted_by_noise_and_not_by_itself() -> None:
    out = corrupt(torch.zeros(1, 3, PX, PX), sample_corruption(plain(), 1, PX, PATCH, rng()))
    assert not out.alien.any()
    assert (out.images.abs().sum(dim=1)[out.hidden] > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_corruption_is_drawn_by_its_generator_alone_and_for_each_image(shape: MaskShape) -> None:
    images = torch.randn(4, 3, PX, PX, generator=rng())
    drawn = [sample_corruption(plain(mask_shape=shape), 4, PX, 4, rng(seed)) for seed in (1, 1, 2)]
    first, same = (corrupt(images, params).images for params in drawn[:2])
    assert torch.equal(first, same)
    for name in ("boxes", "total"):
        mine, other = (getattr(params, name) for params in drawn[1:])
        assert not torch.equal(mine, other)
        assert not torch.equal(mine[0], mine[1])
    assert drawn[1].noise_seed != drawn[2].noise_seed


def test_shares_that_pass_the_whole_are_refused() -> None:
    with pytest.raises(SpecError, match=r"noise_share \+ alien_share"):
        plain(noise_share=0.7, alien_share=0.4)
    with pytest.raises(SpecError, match="mask_ratio"):
        plain(mask_ratio=1.0)


# the decoder


def test_the_decoder_lays_the_pixels_of_a_place_where_the_place_is() -> None:
    decoder = PixelDecoder(8, 16, 3, PATCH)
    features = torch.randn(2, 8, 4, 4, generator=rng())
    changed = features.clone()
    changed[1, :, 2, 3] += 1
    moved = (decoder(features) != decoder(changed)).any(dim=1)
    assert decoder(features).shape == (2, 3, PX, PX)
    assert moved[1, 16:24, 24:32].all()
    moved[1, 16:24, 24:32] = False
    assert not moved.any()


def test_tokens_in_row_major_order_become_a_map() -> None:
    tokens = torch.arange(9.0).view(1, 9, 1)
    assert as_map(tokens)[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize(("backbone", "px"), [(VIT, PATCH), (CNN, 8)])
def test_a_place_of_the_last_map_is_so_many_pixels_wide(
    backbone: dict[str, object], px: int
) -> None:
    net = backbone_config(backbone).build(PX)
    assert net.place_px(PX) == px
    assert net.training


# GMML


def l1_by_loops(prediction: Tensor, images: Tensor, hidden: Tensor) -> float:
    errors = [
        abs(float(prediction[i, c, r, s]) - float(images[i, c, r, s]))
        for i, r, s in hidden.nonzero().tolist()
        for c in range(3)
    ]
    return sum(errors) / len(errors)


@pytest.mark.parametrize("backbone", [VIT, CNN])
def test_the_loss_of_gmml_is_the_mean_error_of_corrupted_pixels_only(
    backbone: dict[str, object],
) -> None:
    torch.manual_seed(0)
    method = Gmml(GmmlConfig(), backbone_config(backbone).build(PX), FACTS).eval()
    loss = method.step(batch()).loss
    (images,) = batch().views
    shown = corrupt(images, sample_corruption(method.config, 4, PX, PATCH, batch().rng))
    with torch.no_grad():
        prediction = method.decoder(method.backbone.features(shown.images)[-1])
    expected = l1_by_loops(prediction.double(), images.double(), shown.hidden)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    wrong_elsewhere = torch.where(shown.hidden[:, None], prediction, 99.0)
    torch.testing.assert_close(hidden_l1(wrong_elsewhere, images, shown.hidden), loss)


def test_gmml_works_where_a_net_rounds_its_last_map_up() -> None:
    facts = replace(FACTS, image_px=36)  # three halvings: 5 places of 8 px
    backbone = backbone_config(CNN).build(36)
    assert torch.isfinite(Gmml(GmmlConfig(), backbone, facts).step(batch(px=36)).loss)


def test_gmml_refuses_a_net_whose_embedding_passes_layers_it_would_not_train() -> None:
    backbone = backbone_config("mobilenetv3_small_050").build(PX)
    with pytest.raises(BackboneError, match=r"resnet18"):
        Gmml(GmmlConfig(), backbone, FACTS)


def test_gmml_recovers_sharp_and_coloured_pixels() -> None:
    (recipe,) = Gmml.recipes(GmmlConfig(), VIEW_PRESETS["imagenet"])
    assert recipe.blur == recipe.grayscale == recipe.erase == recipe.solarise == 0
    assert recipe.crop_scale == VIEW_PRESETS["imagenet"].crop_scale


# a prefix of the sequence


def test_prefix_tokens_stand_between_the_class_token_and_the_patches() -> None:
    backbone = backbone_config(VIT).build(PX).eval()
    assert isinstance(backbone, TokenBackbone)
    images, prefix = torch.randn(2, 3, PX, PX), torch.randn(2, 32, requires_grad=True)
    tokens = backbone.encode_tokens(images, prefix=prefix)
    assert tokens.shape == (2, 1 + 2 + 16, 32)
    swapped = backbone.encode_tokens(images, prefix=prefix.flip(0))
    torch.testing.assert_close(swapped[:, 1:3], tokens[:, [2, 1]])
    torch.testing.assert_close(swapped[:, 3:], tokens[:, 3:])
    tokens[:, 3:].square().sum().backward()
    assert prefix.grad is not None
    assert (prefix.grad != 0).any(dim=1).all()


# SiT, first form


def nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    z = np.concatenate([first, second])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n, losses = len(first), []
    for i in range(2 * n):
        others = [math.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i]
        losses.append(math.log(sum(others)) - z[i] @ z[(i + n) % (2 * n)] / temperature)
    return float(np.mean(losses))


def test_uncertainty_weights_equal_the_formula_and_so_does_their_gradient() -> None:
    losses = torch.tensor([0.3, 1.4, 4.0], dtype=torch.float64, requires_grad=True)
    s = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    log_variance = (2 * s.log()).requires_grad_()
    total = uncertainty_weighted(losses, log_variance)
    each = zip(losses.tolist(), s.tolist(), strict=True)
    assert total.item() == pytest.approx(sum(x / (2 * v**2) + math.log(v) for x, v in each))
    total.backward()
    torch.testing.assert_close(losses.grad, 1 / (2 * s**2))
    # d/ds (L / 2s^2 + log s) = -L / s^3 + 1 / s, and dL/d(log s^2) = s/2 of it
    by_s = -losses.detach() / s**3 + 1 / s
    torch.testing.assert_close(log_variance.grad, by_s * s / 2)


def test_the_learned_variance_settles_where_it_equals_the_loss() -> None:
    losses = torch.tensor([0.3, 4.0])
    log_variance = torch.zeros(2, requires_grad=True)
    descent = torch.optim.SGD([log_variance], lr=0.5)
    for _ in range(200):
        descent.zero_grad()
        uncertainty_weighted(losses, log_variance).backward()
        descent.step()
    torch.testing.assert_close(log_variance.detach().exp(), losses)


def test_the_loss_of_sit_is_its_three_tasks_under_their_weights() -> None:
    torch.manual_seed(0)
    method = Sit(SitConfig(temperature=0.3), backbone_config(VIT).build(PX), FACTS)
    with torch.no_grad():
        method.log_variance.copy_(torch.tensor([-1.0, 0.2, 0.7]))
    given = batch(n_views=2)
    result = method.step(given)
    stream = batch(n_views=2).rng
    turns = torch.randint(4, (2, 4), generator=stream)
    wanted = [
        torch.stack([x.rot90(int(k), (1, 2)) for x, k in zip(view, turn, strict=True)])
        for view, turn in zip(given.views, turns, strict=True)
    ]
    shown = [
        corrupt(view, sample_corruption(method.config, 4, PX, PATCH, stream)).images
        for view in wanted
    ]
    with torch.no_grad():
        tokens = method.backbone.encode_tokens(torch.cat(shown), prefix=method.rotation_token)
        projected = method.projector(tokens[:, 0]).double().numpy()
        scores = method.tell(tokens[:, 1]).double()
        pixels = method.decoder(as_map(tokens[:, 2:])).double()
    truth = turns.flatten().tolist()
    everywhere = torch.ones(8, PX, PX, dtype=torch.bool)
    losses = [
        l1_by_loops(pixels, torch.cat(wanted).double(), everywhere),
        -sum(math.log(float(row.softmax(0)[k])) for row, k in zip(scores, truth, strict=True)) / 8,
        nt_xent(projected[:4], projected[4:], 0.3),
    ]
    names = ("reconstruction", "rotation", "contrastive")
    assert [float(result.parts[name]) for name in names] == pytest.approx(losses, rel=1e-4)
    weighted = [
        x / (2 * math.exp(v)) + v / 2 for x, v in zip(losses, (-1.0, 0.2, 0.7), strict=True)
    ]
    assert result.loss.item() == pytest.approx(sum(weighted), rel=1e-4)
    shown_weights = [float(result.parts[f"{name}_weight"]) for name in names]
    assert shown_weights == pytest.approx([0.5 * math.exp(-v) for v in (-1.0, 0.2, 0.7)])
    assert [method.rate(name).scale for name in ("log_variance", "tell.weight")] == [10, 1]
    right = [int(row.argmax()) == k for row, k in zip(scores, truth, strict=True)]
    assert float(result.parts["accuracy"]) == pytest.approx(sum(right) / 8)


def test_an_image_is_turned_by_what_its_label_says() -> None:
    corner = torch.zeros(4, 3, 8, 8)
    corner[:, :, 0, 0] = 1  # at the upper left
    out = turned(corner, torch.arange(4))
    places = [tuple(image[0].nonzero()[0].tolist()) for image in out]
    assert places == [(0, 0), (7, 0), (7, 7), (0, 7)]  # counter-clockwise


def test_the_views_of_sit_stand_upright_and_those_of_2022_need_not() -> None:
    base = VIEW_PRESETS["medical"]
    for recipe in Sit.recipes(SitConfig(), base):
        assert not recipe.quarter_turns
        assert recipe.vertical_flip == 0
        assert recipe.horizontal_flip == base.horizontal_flip
    assert all(recipe.quarter_turns for recipe in Sit2022.recipes(Sit2022Config(), base))


def test_only_the_backbone_is_transferred_and_not_the_rotation_token() -> None:
    backbone = backbone_config(VIT).build(PX)
    names = set(backbone.state_dict())
    method = Sit(SitConfig(), backbone, FACTS)
    kept = {k.removeprefix("backbone.") for k in method.state_dict() if k.startswith("backbone.")}
    assert kept == names
    assert "rotation_token" in method.state_dict()


@pytest.mark.parametrize("cls", [Sit, Sit2022])
def test_sit_names_the_backbones_that_serve_it(cls: type[Sit] | type[Sit2022]) -> None:
    with pytest.raises(BackboneError, match="vit_tiny_patch16_224"):
        cls(cls.Config(), backbone_config(CNN).build(PX), FACTS)  # type: ignore[arg-type]


# SiT, later form


def matched(queries: np.ndarray, keys: np.ndarray, temperature: float) -> float:
    """Chen et al. 2021, algorithm 1, by loops."""
    losses = []
    for i, query in enumerate(queries):
        cosines = [query @ k / np.linalg.norm(query) / np.linalg.norm(k) for k in keys]
        scores = np.array(cosines) / temperature
        losses.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[i])
    return 2 * temperature * float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.2, 0.005])
def test_the_loss_of_sit_2022_is_contrast_and_weighted_reconstruction(temperature: float) -> None:
    torch.manual_seed(0)
    config = Sit2022Config(temperature=temperature, reconstruction_weight=3)
    method = Sit2022(config, backbone_config(VIT).build(PX), FACTS)
    given = batch(n_views=2)
    loss = method.step(given).loss
    stream = batch(n_views=2).rng
    with torch.no_grad():
        shown = [
            corrupt(view, sample_corruption(config, 4, PX, PATCH, stream)) for view in given.views
        ]
        assert not any(one.noise.any() for one in shown)
        tokens = [method.backbone.encode_tokens(one.images) for one in shown]
        first, second = (method.projector(t[:, 0]).double().numpy() for t in tokens)
        keys = [method.teacher(view).double().numpy() for view in given.views]  # not corrupted
        pixels = torch.cat([method.decoder(as_map(t[:, 1:])) for t in tokens]).double()
    contrast = matched(first, keys[1], temperature) + matched(second, keys[0], temperature)
    hidden = torch.cat([one.hidden for one in shown])
    error = l1_by_loops(pixels, torch.cat(given.views).double(), hidden)
    assert loss.item() == pytest.approx(contrast + 3 * error, rel=1e-4)


def test_the_teacher_moves_by_momentum_and_ever_more_slowly() -> None:
    method = Sit2022(Sit2022Config(momentum=0.9), backbone_config(VIT).build(PX), FACTS)
    before = {k: v.clone() for k, v in method.teacher.named_parameters()}
    assert not any(v.requires_grad for v in method.teacher.parameters())
    with torch.no_grad():
        for weight in method.online.parameters():
            weight.add_(1.0)
    method.after_step(Progress(step=0, total_steps=8))
    for key, weight in method.teacher.named_parameters():
        torch.testing.assert_close(weight, before[key] + 0.1)
    then = {k: v.clone() for k, v in method.teacher.named_parameters()}
    method.after_step(Progress(step=8, total_steps=8))
    assert all(torch.equal(v, then[k]) for k, v in method.teacher.named_parameters())


# extremes


@pytest.mark.parametrize("cls", [Gmml, Sit, Sit2022])
def test_a_batch_of_two_in_half_precision_at_the_least_temperature_is_finite(
    cls: type[Gmml] | type[Sit] | type[Sit2022],
) -> None:
    cold = {} if cls is Gmml else {"temperature": 0.005}
    config = cls.Config.parse({"name": cls.Config.model_fields["name"].default, **cold})
    method = cls(config, backbone_config(VIT).build(PX), FACTS)  # type: ignore[arg-type]
    for given in (batch(2, 2), replace(batch(2, 2), views=(torch.zeros(2, 3, PX, PX),) * 2)):
        views = given.views[:1] if cls is Gmml else given.views
        with torch.autocast("cpu", torch.bfloat16):
            loss = method.step(replace(given, views=views)).loss
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        loss.backward()
        grads = [w.grad for w in method.parameters() if w.grad is not None]
        assert all(torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("px", [8, 224])
def test_the_smallest_and_the_largest_images_are_corrupted(shape: MaskShape, px: int) -> None:
    params: CorruptionParams = sample_corruption(plain(mask_shape=shape), 2, px, px // 4, rng())
    out = corrupt(torch.randn(2, 3, px, px), params)
    assert 0.5 <= out.ratio <= 0.95
    assert torch.isfinite(out.images).all()
