"""Puzzles of volumes: undone by their answers they are the volume; shortcuts do not solve them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS
from melssl.frame import Frame
from melssl.methods.base import Batch, PoolFacts
from melssl.methods.jigsaw import Jigsaw, JigsawConfig
from melssl.methods.orders import shuffled, spread_orders
from melssl.methods.rotation import Rotation, RotationConfig
from melssl.methods.volumes.rubik import HALF_TURNS, Rubik, RubikConfig, half_turned
from melssl.methods.volumes.rubik_plus import RubikPlus, RubikPlusConfig

SIDE = 24
FRAME = Frame(side_px=SIDE, depth=SIDE, channels=1)
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
SMALL = {"n_permutations": 12, "hidden_width": 16, "projection_width": 8}
WHOLE = {"level": "none"}  # and tiles without gaps: nothing is lost


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facts(frame: Frame = FRAME) -> PoolFacts:
    return PoolFacts(
        n_samples=8, n_patients=4, image_px=frame.side_px, depth=frame.depth, channels=1
    )


def batch(volumes: Tensor, seed: int = 0) -> Batch:
    place = torch.arange(len(volumes))
    return Batch(views=(volumes,), place=place, patient=place, rng=rng(seed))


def noise(n: int = 2, frame: Frame = FRAME) -> Tensor:
    return torch.randn(n, *frame.shape, generator=rng())


def rubik(frame: Frame = FRAME, **changes: object) -> Rubik:
    torch.manual_seed(0)
    config = RubikConfig.parse(SMALL | changes)
    return Rubik(config, backbone_config(CNN).build(frame), facts(frame))


def rubik_plus(**changes: object) -> RubikPlus:
    torch.manual_seed(0)
    config = RubikPlusConfig.parse(SMALL | changes)
    return RubikPlus(config, backbone_config(CNN).build(FRAME), facts())


def jigsaw(**changes: object) -> Jigsaw:
    torch.manual_seed(0)
    config = JigsawConfig.parse(SMALL | changes)
    return Jigsaw(config, backbone_config(CNN).build(FRAME), facts())


def laid_out(tiles: Tensor) -> Tensor:
    """Lay tiles (N, C, D, H, W), in reading order, out as a volume."""
    k = round(len(tiles) ** (1 / 3))
    slabs = [
        torch.cat([torch.cat(list(row), dim=3) for row in slab.unflatten(0, (k, k))], dim=2)
        for slab in tiles.unflatten(0, (k, k * k))
    ]
    return torch.cat(slabs, dim=1)


def test_cubes_turned_and_laid_back_by_the_answers_are_the_volume() -> None:
    method, volumes = rubik(cube_share=1, **WHOLE), noise()
    cubes, asked = method.posed(volumes, batch(volumes))
    assert 0 < asked["turn"].float().mean() < 1
    drawn = torch.tensor([[3, 7], [0, 11]])
    orders = method.orders[drawn]
    puzzles, turns = shuffled(cubes, orders), shuffled(asked["turn"], orders)
    for index in range(2):
        for k in range(2):
            upright = half_turned(puzzles[index, k][None], turns[index, k][None])[0]
            back = torch.stack([upright[orders[index, k].tolist().index(p)] for p in range(8)])
            assert torch.equal(laid_out(back), volumes[index])
    assert not torch.equal(laid_out(puzzles[0, 0]), volumes[0])


def test_the_half_turns_are_turns_and_no_mirrors() -> None:
    corner = torch.zeros(1, 4, 1, 4, 4, 4)
    corner[..., 0, 1, 3] = 1
    flags = torch.tensor([[[0, 0], [1, 0], [0, 1], [1, 1]]], dtype=torch.bool)
    places = [tuple(c.nonzero()[0, 1:].tolist()) for c in half_turned(corner, flags)[0]]
    assert places == [(0, 1, 3), (3, 2, 3), (0, 2, 0), (3, 1, 0)]  # about W, about D, about H
    assert all(len(axes) == 2 for axes in HALF_TURNS)  # two axes reversed keep the handedness


@pytest.mark.parametrize(("per_side", "n_tiles"), [(2, 8), (3, 27)])
def test_tiles_of_a_volume_laid_back_by_the_answer_are_the_volume(
    per_side: int, n_tiles: int
) -> None:
    method, volumes = jigsaw(tiles_per_side=per_side, tile_share=1, **WHOLE), noise()
    tiles = method.tiles(volumes, rng())
    assert tiles.shape[1] == n_tiles
    order = method.orders[5].tolist()
    puzzle = shuffled(tiles, method.orders[torch.tensor([[5], [5]])])[:, 0]
    assert sorted(order) == list(range(n_tiles))
    for index in range(2):
        back = torch.stack([puzzle[index, order.index(place)] for place in range(n_tiles)])
        if tiles.shape[-1] == SIDE // per_side:
            assert torch.equal(laid_out(back), volumes[index])
        assert torch.equal(back, tiles[index])


@pytest.mark.parametrize(("n", "n_tiles", "distance"), [(64, 8, 6), (64, 27, 25), (3, 4, 4)])
def test_orders_of_any_number_of_tiles_differ_in_many_places(
    n: int, n_tiles: int, distance: int
) -> None:
    orders = spread_orders(n, n_tiles)
    assert orders[0].tolist() == list(range(n_tiles))
    assert all(sorted(order) == list(range(n_tiles)) for order in orders.tolist())
    apart = (orders[:, None] != orders[None]).sum(axis=2)
    assert apart[~np.eye(n, dtype=bool)].min() == distance
    with pytest.raises(ValueError, match="up to 24 orders of 4 tiles"):
        spread_orders(25, 4)


def test_a_volume_turned_back_by_the_answer_is_the_volume() -> None:
    torch.manual_seed(0)
    net = backbone_config(CNN).build(FRAME)
    method = Rotation(RotationConfig(axes="all"), net, facts())
    volumes = noise()
    shown, turns = method.turned(volumes, None)
    assert len(shown) == 20
    assert method.chance == 1 / 10
    for place, (volume, turn) in enumerate(zip(shown, turns.tolist(), strict=True)):
        plane, quarters = method.answers[turn]
        assert torch.equal(volume.rot90(-quarters, plane), volumes[place % 2])
    distinct = {tuple(volume.flatten().tolist()) for volume in shown[::2]}
    assert len(distinct) == 10


def minus_log_softmax(row: list[float], answer: int) -> float:
    top = max(row)
    return top + math.log(sum(math.exp(s - top) for s in row)) - row[answer]


@pytest.mark.parametrize("build", [rubik, rubik_plus])
def test_the_loss_is_that_of_the_order_and_of_every_question_about_every_cube(
    build: Callable[..., Rubik],
) -> None:
    method = build(orders_per_volume=3, order_weight=0.7, turn_weight=0.4).eval()
    volumes = noise(3)
    given = batch(volumes, seed=4)
    result = method.step(given)
    stream = batch(volumes, seed=4)
    cubes, asked = method.posed(volumes, stream)
    drawn = torch.randint(12, (3, 3), generator=stream.rng)
    with torch.no_grad():
        embedded = method.narrow(method.backbone(cubes.flatten(0, 1))).view(3, 8, -1)
    order_losses: list[float] = []
    cube_losses: dict[str, list[float]] = {name: [] for name in asked}
    for index in range(3):
        for answer in drawn[index].tolist():
            order = method.orders[answer].tolist()
            with torch.no_grad():
                read = method.read(torch.cat([embedded[index, cube] for cube in order])[None])
                scores = method.order_head(read)[0].tolist()
                said = {name: method.cube_heads[name](read).view(8, -1) for name in asked}
            order_losses.append(minus_log_softmax(scores, answer))
            for name, flags in asked.items():
                for place, cube in enumerate(order):
                    for score, flag in zip(said[name][place], flags[index, cube], strict=True):
                        p = 1 / (1 + math.exp(-float(score)))
                        cube_losses[name].append(-math.log(p if flag else 1 - p))
    weights = {"turn": 0.4, "hidden": 0.5}
    expected = 0.7 * np.mean(order_losses)
    expected += sum(weights[name] * np.mean(values) for name, values in cube_losses.items())
    assert result.loss.item() == pytest.approx(expected, rel=1e-4)
    for name, values in cube_losses.items():
        assert result.parts[f"{name}_loss"].item() == pytest.approx(np.mean(values), rel=1e-4)


def test_holes_show_the_mean_of_their_cube_and_half_of_the_cubes_have_them() -> None:
    volumes = noise(32)
    method = rubik_plus(turn_share=0)
    cubes, asked = method.posed(volumes, batch(volumes))
    plain = method.cubes(volumes, batch(volumes))
    hidden = asked["hidden"][..., 0]
    assert 0.4 < hidden.float().mean() < 0.6
    assert torch.equal(cubes[~hidden], plain[~hidden])
    changed = cubes[hidden] != plain[hidden]
    assert 0.45 < changed.float().mean() < 0.55
    mean = plain[hidden].mean(dim=(1, 2, 3, 4), keepdim=True).expand_as(plain[hidden])
    torch.testing.assert_close(cubes[hidden][changed], mean[changed])


def test_half_turns_that_show_in_a_cube_are_learned() -> None:
    frame = Frame(side_px=16, depth=16, channels=1)
    method = rubik(frame, order_weight=0, hidden_width=256, projection_width=64)
    line = torch.arange(16) % 8 / 4 - 1  # every cube is brighter towards the back and the feet
    cubes = line[:, None, None] + 1.5 * line[:, None] + torch.zeros(16, 1, 16, 16, 16)
    descent = torch.optim.AdamW(method.parameters(), lr=1e-2)
    for step in range(20):
        result = method.step(
            batch(cubes + 0.2 * torch.randn(cubes.shape, generator=rng(step)), step)
        )
        result.loss.backward()
        descent.step()
        descent.zero_grad()
    assert result.parts["turn_accuracy"] > 0.9


# shortcuts: a reader without weights that knows the rule of the puzzle, and nothing of anatomy


def best(cost: Callable[[Tensor], Tensor], puzzle: Tensor, orders: Tensor) -> int:
    """Return the order under which the cubes (8, C, *sides), laid back, cost least."""
    costs = []
    for order in orders.tolist():
        back = torch.stack([puzzle[order.index(place)] for place in range(len(order))])
        costs.append(float(cost(back.view(2, 2, 2, *back.shape[1:]))))
    return int(np.argmin(costs))


def seams(cubes: Tensor) -> Tensor:
    """Return how much voxels that touch across cuts differ, cubes (2, 2, 2, C, D, H, W)."""
    total = torch.zeros(())
    for axis in range(3):
        first, second = cubes.unbind(axis)
        inner = axis - 3
        gap = first.select(inner, -1) - second.select(inner, 0)
        total = total + gap.abs().mean()
    return total


def darkness(cubes: Tensor) -> Tensor:
    """Return how little the cubes' means rise along the axes."""
    means = cubes.mean(dim=(3, 4, 5, 6))
    return -sum(axis * means.diff(dim=axis - 1).mean() for axis in (1, 2, 3))


def solved(method: Rubik, cost: Callable[[Tensor], Tensor], volumes: Tensor) -> float:
    """Return how many puzzles the reader solves."""
    cubes = method.cubes(volumes, batch(volumes))
    answers = torch.randint(len(method.orders), (len(volumes),), generator=rng(1))
    puzzles = shuffled(cubes, method.orders[answers][:, None])[:, 0]
    guesses = [best(cost, puzzle, method.orders) for puzzle in puzzles]
    return float(np.mean([a == g for a, g in zip(answers.tolist(), guesses, strict=True)]))


def textured(n: int) -> Tensor:
    """Return volumes whose neighbouring voxels are alike, and those three apart are not."""
    white = torch.randn(n, 1, SIDE + 2, SIDE + 2, SIDE + 2, generator=rng())
    return torch.nn.functional.avg_pool3d(white, 3, stride=1)


def shaded(n: int) -> Tensor:
    """Return noise that is brighter towards the front, the top and one side, not alike."""
    line = torch.linspace(0, 1, SIDE)
    ramp = line[:, None, None] + 2 * line[:, None] + 3 * line
    return ramp + 0.5 * torch.randn(n, 1, SIDE, SIDE, SIDE, generator=rng())


def test_a_reader_of_borders_solves_cubes_that_touch_and_is_lost_over_a_gap() -> None:
    volumes = textured(24)
    assert solved(rubik(cube_share=1, level="none"), seams, volumes) > 0.9
    assert solved(rubik(level="none"), seams, volumes) < 0.35  # chance is 1 / 12


def test_a_reader_of_brightness_solves_cubes_as_they_are_and_is_lost_where_they_are_levelled() -> (
    None
):
    volumes = shaded(24)
    assert solved(rubik(level="none"), darkness, volumes) > 0.9
    for level in ("image", "unit"):
        assert solved(rubik(level=level), darkness, volumes) < 0.35


def test_volumes_are_shown_upright_where_turns_are_asked_for() -> None:
    base = VIEW_PRESETS["medical"].replace(depth_flip=0.5)
    for recipe in (
        *Rubik.recipes(RubikConfig(), base),
        *Rotation.recipes(RotationConfig(axes="all"), base),
    ):
        assert not recipe.quarter_turns
        assert recipe.vertical_flip == recipe.depth_flip == 0


def test_volumes_that_are_no_cubes_have_puzzles_too() -> None:
    frame = Frame(side_px=24, depth=16, channels=1)
    method = rubik(frame)
    assert torch.isfinite(method.step(batch(noise(4, frame))).loss)
