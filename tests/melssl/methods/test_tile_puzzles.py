"""Jigsaw and relative position: the answers are true, the shortcuts are closed."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS
from melssl.methods.base import Batch, Method, PoolFacts
from melssl.methods.jigsaw import Jigsaw, JigsawConfig
from melssl.methods.orders import shuffled, spread_orders
from melssl.methods.relative_position import (
    SIDES,
    RelativePosition,
    RelativePositionConfig,
    colour_dropped,
    neighbours,
)
from melssl.methods.tiles import cut, levelled

CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facts(image_px: int = 36) -> PoolFacts:
    return PoolFacts(n_samples=8, n_patients=4, image_px=image_px)


def batch(images: Tensor, seed: int = 0) -> Batch:
    place = torch.arange(len(images))
    return Batch(views=(images,), place=place, patient=place, rng=rng(seed))


def jigsaw(image_px: int = 36, **changes: object) -> Jigsaw:
    torch.manual_seed(0)
    config = JigsawConfig(n_permutations=12, hidden_width=16).replace(**changes)
    return Jigsaw(config, backbone_config(CNN).build(image_px), facts(image_px))


def relative(image_px: int = 36, **changes: object) -> RelativePosition:
    torch.manual_seed(0)
    config = RelativePositionConfig(hidden_width=16).replace(**changes)
    return RelativePosition(config, backbone_config(CNN).build(image_px), facts(image_px))


def cross_entropy(scores: Tensor, answers: list[int]) -> float:
    """The mean of -log softmax, by loops."""
    losses = []
    for row, answer in zip(scores.double().tolist(), answers, strict=True):
        losses.append(math.log(sum(math.exp(s - row[answer]) for s in row)))
    return float(np.mean(losses))


def assembled(tiles: Tensor) -> Tensor:
    """Lay nine tiles (9, 3, T, T) out as an image."""
    rows = [torch.cat(list(tiles[3 * r : 3 * r + 3]), dim=2) for r in range(3)]
    return torch.cat(rows, dim=1)


def test_orders_laid_back_by_the_answer_give_the_image() -> None:
    images = torch.randn(2, 3, 36, 36, generator=rng())
    method = jigsaw(tile_share=1, level="none")
    tiles = method.tiles(images, rng())
    drawn = torch.tensor([[3, 7], [0, 11]])
    puzzles = shuffled(tiles, method.orders[drawn])
    for image in range(2):
        for k in range(2):
            order = method.orders[drawn[image, k]].tolist()
            laid_back = torch.stack([puzzles[image, k, order.index(place)] for place in range(9)])
            torch.testing.assert_close(assembled(laid_back), images[image])
    assert not torch.equal(assembled(puzzles[0, 0]), images[0])


def test_the_loss_of_jigsaw_is_the_cross_entropy_of_every_order() -> None:
    method, images = jigsaw(orders_per_image=3), torch.randn(2, 3, 36, 36, generator=rng())
    result = method.step(batch(images, seed=4))
    stream = rng(4)
    tiles = method.tiles(images, stream)
    drawn = torch.randint(12, (2, 3), generator=stream)
    with torch.no_grad():
        embedded = method.narrow(method.backbone(tiles.flatten(0, 1))).view(2, 9, -1)
        rows, answers = [], []
        for image in range(2):
            for answer in drawn[image].tolist():
                order = method.orders[answer].tolist()
                rows.append(torch.cat([embedded[image, tile] for tile in order]))
                answers.append(answer)
        scores = method.head(torch.stack(rows))
    assert result.loss.item() == pytest.approx(cross_entropy(scores, answers), rel=1e-5)
    right = np.mean(scores.argmax(dim=1).numpy() == answers)
    assert result.parts["accuracy"].item() == pytest.approx(right)


def smallest_distance(orders: np.ndarray) -> int:
    pairs = [(a, b) for i, a in enumerate(orders.tolist()) for b in orders.tolist()[:i]]
    return min(sum(x != y for x, y in zip(a, b, strict=True)) for a, b in pairs)


@pytest.mark.parametrize(("n", "distance"), [(9, 9), (10, 8), (64, 7)])
def test_orders_differ_from_each_other_in_many_places(n: int, distance: int) -> None:
    orders = spread_orders(n)
    assert orders.shape == (n, 9)
    assert all(sorted(order) == list(range(9)) for order in orders.tolist())
    assert smallest_distance(orders) == distance


def test_no_other_order_would_have_been_farther_from_those_chosen() -> None:
    orders = spread_orders(12)
    sample = [p for i, p in enumerate(permutations(range(9))) if i % 997 == 0]
    for step in range(1, 12):
        chosen, taken = orders[:step].tolist(), orders[step].tolist()

        def nearest(order: list[int], chosen: list[list[int]] = chosen) -> int:
            return min(sum(x != y for x, y in zip(order, c, strict=True)) for c in chosen)

        assert all(nearest(list(order)) <= nearest(taken) for order in sample)


def test_the_set_of_orders_is_the_same_in_every_process_and_longer_sets_begin_alike() -> None:
    assert np.array_equal(spread_orders(20)[:7], spread_orders(7))
    assert spread_orders(3).tolist()[:2] == [list(range(9)), [1, 0, 3, 2, 5, 4, 7, 8, 6]]


def test_tiles_stay_in_their_cells_and_are_moved_over_the_whole_slack() -> None:
    corners = jigsaw(48).grid.sample(200, rng())
    assert jigsaw(48).grid.tile == (13, 13)
    within = corners - 16 * torch.cartesian_prod(torch.arange(3), torch.arange(3))
    assert within.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("build", [jigsaw, relative])
@pytest.mark.parametrize("level", ["image", "unit"])
def test_brightness_that_falls_towards_the_corner_changes_no_puzzle(
    build: type[Jigsaw], level: str
) -> None:
    images = torch.rand(1, 3, 36, 36, generator=rng())
    method = build(level=level, **({"colour_drop": 0} if build is relative else {"tile_share": 1}))
    plain = cut(images, method.grid.sample(1, rng()), method.grid.tile, method.sides)
    shade = torch.linspace(0.3, 1, 9).view(1, 9, 1, 1, 1)
    torch.testing.assert_close(levelled(plain * shade, "unit"), levelled(plain, "unit"))
    tiles = method.tiles(images, rng())
    assert (tiles.mean((3, 4)) - tiles.mean((3, 4))[:, :1]).abs().max() < 1e-5


def test_the_second_tile_lies_where_the_answer_says_and_every_pair_is_asked_evenly() -> None:
    for side, (down, right) in enumerate(SIDES):
        pairs = neighbours()[side].tolist()
        for first, second in pairs:
            assert (second // 3 - first // 3, second % 3 - first % 3) == (down, right)
        distinct = {tuple(pair) for pair in pairs}
        assert len(distinct) == (3 - abs(down)) * (3 - abs(right))
        assert {pairs.count(list(pair)) for pair in distinct} == {12 // len(distinct)}


def test_the_loss_of_relative_position_is_the_cross_entropy_of_eight_sides() -> None:
    method, images = relative(), torch.randn(2, 3, 36, 36, generator=rng())
    result = method.step(batch(images, seed=4))
    stream = rng(4)
    tiles = method.tiles(images, stream)
    drawn = torch.randint(12, (2, 8), generator=stream)
    with torch.no_grad():
        embedded = method.narrow(method.backbone(tiles.flatten(0, 1))).view(2, 9, -1)
        rows = []
        for image in range(2):
            for side in range(8):
                first, second = neighbours()[side, drawn[image, side]].tolist()
                rows.append(torch.cat([embedded[image, first], embedded[image, second]]))
        scores = method.head(torch.stack(rows))
    assert result.loss.item() == pytest.approx(cross_entropy(scores, [*range(8), *range(8)]))


def test_a_tile_of_dropped_colours_keeps_one_channel_and_faint_noise() -> None:
    tiles = torch.randn(8, 9, 3, 16, 16, generator=rng())
    dropped = colour_dropped(tiles, 1.0, rng()).flatten(0, 1)
    for before, after in zip(tiles.flatten(0, 1), dropped, strict=True):
        kept = [c for c in range(3) if torch.equal(before[c], after[c])]
        assert len(kept) == 1
        noise = after[[c for c in range(3) if c not in kept]].std() / before[kept[0]].std()
        assert 0.008 < noise < 0.012
    channels = (dropped == tiles.flatten(0, 1)).flatten(2).all(2).sum(0)
    assert (channels > 8).all()  # of 72 tiles, each channel is kept about 24 times
    assert torch.equal(colour_dropped(tiles, 0.0, rng()), tiles)


@pytest.mark.parametrize("build", [jigsaw, relative])
@pytest.mark.parametrize("image_px", [16, 48])
def test_a_batch_of_two_in_half_precision_gives_a_finite_loss(
    build: type[Jigsaw], image_px: int
) -> None:
    method: Method = build(image_px)
    with torch.autocast("cpu", torch.bfloat16):
        result = method.step(batch(torch.randn(2, 3, image_px, image_px)))
    assert result.loss.dtype == torch.float32
    assert torch.isfinite(result.loss)
    assert 0 <= result.parts["accuracy"] <= 1


def test_a_view_of_another_size_is_asked_for_and_cut() -> None:
    method = jigsaw(view_px=60)
    (recipe,) = Jigsaw.recipes(method.config, VIEW_PRESETS["medical"])
    assert (recipe.size_px, recipe.grayscale, recipe.erase) == (60, 0.3, 0)
    assert method.tiles(torch.randn(1, 3, 60, 60), rng()).shape == (1, 9, 3, 20, 20)
    assert method.chance == 1 / 12
