"""Order verification and prediction, space-time puzzles: true answers, closed shortcuts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS
from melssl.errors import BackboneError
from melssl.frame import Frame
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts
from melssl.methods.clips.order_prediction import (
    OrderPrediction,
    OrderPredictionConfig,
    one_way_orders,
)
from melssl.methods.clips.order_verification import OrderVerification, OrderVerificationConfig
from melssl.methods.clips.pieces import disguised, held, motion, taken, uniform, window_starts
from melssl.methods.clips.space_time_puzzle import SpaceTimePuzzle, SpaceTimePuzzleConfig

D, PX = 12, 16
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
PLAIN = {"moved": 0, "level": "none", "one_channel": 0, "hidden_width": 16, "projection_width": 8}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int = 4, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(n, channels, D, PX, PX, generator=rng(seed))


def batch(views: Tensor, seed: int = 0) -> Batch:
    place = torch.arange(len(views))
    return Batch(views=(views,), place=place, patient=place, rng=rng(seed))


def built(method: type[Method], config: MethodConfig, channels: int = 1, depth: int = D) -> Method:
    torch.manual_seed(0)
    facts = PoolFacts(n_samples=8, n_patients=4, image_px=PX, depth=depth, channels=channels)
    return method(config, backbone_config(CNN).build(facts.frame), facts)


def verification(channels: int = 1, **changes: object) -> OrderVerification:
    config = OrderVerificationConfig().replace(**(PLAIN | changes))
    method = built(OrderVerification, config, channels)
    assert isinstance(method, OrderVerification)
    return method


def prediction(**changes: object) -> OrderPrediction:
    method = built(OrderPrediction, OrderPredictionConfig().replace(**(PLAIN | changes)))
    assert isinstance(method, OrderPrediction)
    return method


def puzzle(**changes: object) -> SpaceTimePuzzle:
    method = built(SpaceTimePuzzle, SpaceTimePuzzleConfig().replace(**(PLAIN | changes)))
    assert isinstance(method, SpaceTimePuzzle)
    return method


def cross_entropy(scores: Tensor, answers: list[int]) -> float:
    """The mean of -log softmax, by loops."""
    rows = zip(scores.double().tolist(), answers, strict=True)
    return float(np.mean([math.log(sum(math.exp(s - row[k]) for s in row)) for row, k in rows]))


def where_in(clip: Tensor, piece: Tensor) -> int:
    """Return the frame of ``clip`` (C, D, S, S) at which ``piece`` (C, F, S, S) is found."""
    n_frames = piece.shape[1]
    starts = range(clip.shape[1] - n_frames + 1)
    found = [t for t in starts if torch.equal(clip[:, t : t + n_frames], piece)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("frames_each", [1, 2])
@pytest.mark.parametrize("span", [0.1, 0.5, 1])
def test_a_triple_is_ordered_where_its_middle_lies_between_the_others(
    frames_each: int, span: float
) -> None:
    method, views = verification(frames_each=frames_each, span=span), clips(32)
    pieces, orders, answers = method.questions(views, batch(views))
    assert answers.float().mean() == 0.5
    backwards = 0
    for i in range(32):
        places = [where_in(views[i], piece) for piece in pieces[i]]
        for order, answer in zip(orders[i].tolist(), answers[i].tolist(), strict=True):
            first, middle, last = (places[k] for k in order)
            low, high = min(first, last), max(first, last)
            apart = min(abs(a - b) for a, b in ((first, middle), (middle, last), (first, last)))
            assert apart >= frames_each
            assert (low < middle < high) == bool(answer)
            backwards += first > last
    assert 16 < backwards < 48


@pytest.mark.parametrize("frames_each", [1, 3])
def test_frames_sorted_by_the_answer_are_the_clip_forwards_or_backwards(frames_each: int) -> None:
    method, views = prediction(frames_each=frames_each, orders_per_clip=12), clips()
    pieces, orders, answers = method.questions(views, batch(views))
    for i in range(len(views)):
        places = [where_in(views[i], piece) for piece in pieces[i]]
        assert places == sorted(places)
        for shown, answer in zip(orders[i].tolist(), answers[i].tolist(), strict=True):
            order = method.orders[answer].tolist()
            either = [[way[order.index(k)] for k in range(4)] for way in (shown, shown[::-1])]
            assert [0, 1, 2, 3] in either
            laid_back = either[either.index([0, 1, 2, 3])]
            sorted_pieces = torch.cat([pieces[i, k] for k in laid_back], dim=1)
            expected = [views[i, :, t : t + frames_each] for t in places]
            assert torch.equal(sorted_pieces, torch.cat(expected, dim=1))


def test_four_frames_have_twelve_orders_that_differ_backwards_too() -> None:
    orders = one_way_orders(4).tolist()
    both = {tuple(order) for order in orders} | {tuple(order[::-1]) for order in orders}
    assert (len(orders), len(both)) == (12, 24)


def test_windows_are_drawn_where_clips_move() -> None:
    moved = torch.zeros(1, D - 1).expand(1000, -1).clone()
    moved[:, 7] = 3.0  # frames 7 and 8 differ
    moved[:, 2] = 1.0
    allowed = torch.ones(D - 1, dtype=torch.bool)
    drawn = (torch.arange(1000) + 0.5) / 1000
    starts = window_starts(moved, 2, allowed, drawn)
    assert set(starts.tolist()) == {2, 7}
    assert (starts == 7).float().mean().item() == pytest.approx(0.75, abs=0.01)
    allowed[7] = False
    assert set(window_starts(moved, 2, allowed, drawn).tolist()) == {2}
    still = window_starts(torch.zeros(1000, D - 1), 2, allowed, drawn)
    assert set(still.tolist()) == set(range(D - 1)) - {7}
    assert motion(clips(2)).shape == (2, D - 1)


@pytest.mark.parametrize("fusion", ["late", "early"])
def test_the_loss_of_verification_is_the_cross_entropy_of_both_triples(fusion: str) -> None:
    method, views = verification(fusion=fusion), clips()
    result = method.step(batch(views, seed=3))
    pieces, orders, answers = method.questions(views, batch(views, seed=3))
    reader, rows = method.reader, []
    with torch.no_grad():
        if fusion == "late":
            shown = held(pieces, method.backbone, alone=True).flatten(0, 1)
            embedded = reader.narrow(method.backbone(shown)).view(4, 4, -1)
            rows = [torch.cat([embedded[i, k] for k in o]) for i in range(4) for o in orders[i]]
            scores = reader.head(torch.stack(rows))
        else:
            rows = [
                torch.cat([pieces[i, k] for k in o], dim=1) for i in range(4) for o in orders[i]
            ]
            scores = reader.head(reader.narrow(method.backbone(torch.stack(rows))))
    asked = answers.flatten().tolist()
    assert result.loss.item() == pytest.approx(cross_entropy(scores, asked), rel=1e-5)
    right = np.mean(scores.argmax(dim=1).numpy() == asked)
    assert result.parts["accuracy"].item() == pytest.approx(right)


def assembled(cubes: Tensor, layout: str) -> Tensor:
    """Lay four cubes (4, C, F, s, s) out as a clip."""
    if layout == "time":
        return torch.cat(list(cubes), dim=1)
    top, bottom = torch.cat(list(cubes[:2]), dim=3), torch.cat(list(cubes[2:]), dim=3)
    return torch.cat([top, bottom], dim=2)


@pytest.mark.parametrize("layout", ["space", "time"])
def test_cubes_laid_back_by_the_answer_are_the_clip(layout: str) -> None:
    method, views = puzzle(layout=layout, cube_share=1, orders_per_clip=6), clips(2)
    cubes, orders, answers, _ = method.puzzles(views, batch(views), layout)
    for i in range(2):
        for shown, answer in zip(orders[i], answers[i].tolist(), strict=True):
            puzzled = cubes[i, shown]
            order = method.orders[answer].tolist()
            laid_back = puzzled[[order.index(place) for place in range(4)]]
            assert torch.equal(assembled(laid_back, layout), views[i])
            if answer:
                assert not torch.equal(assembled(puzzled, layout), views[i])


def test_the_loss_of_the_puzzle_is_the_mean_over_both_layouts() -> None:
    method, views = puzzle(orders_per_clip=2), clips(3)
    result = method.step(batch(views, seed=5))
    stream, losses = batch(views, seed=5), []
    for layout in ("space", "time"):
        cubes, orders, answers, _ = method.puzzles(views, stream, layout)
        reader, rows = method.readers[layout], []
        with torch.no_grad():
            embedded = reader.narrow(method.backbone(cubes.flatten(0, 1))).view(3, 4, -1)
            rows = [torch.cat([embedded[i, k] for k in o]) for i in range(3) for o in orders[i]]
            losses.append(cross_entropy(reader.head(torch.stack(rows)), answers.flatten().tolist()))
    assert result.loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_turned_puzzle_turned_back_is_the_puzzle() -> None:
    method, views = puzzle(layout="time", turn_weight=1, cube_share=1), clips(16)
    cubes, _, _, turns = method.puzzles(views, batch(views), "time")
    assert set(turns.tolist()) == {0, 1, 2, 3}
    for cube, turn, clip in zip(cubes, turns.tolist(), views, strict=True):
        assert torch.equal(assembled(torch.rot90(cube, -turn, (-2, -1)), "time"), clip)
    result = method.step(batch(views))
    plain = puzzle(layout="time", cube_share=1)
    assert plain.turns is None
    assert result.loss > 0
    (upright,) = method.recipes(method.config, VIEW_PRESETS["medical"])
    assert (upright.quarter_turns, upright.vertical_flip) == (False, 0)


def drifting(n: int = 64) -> Tensor:
    """Clips of noise without motion, the light of which grows from frame to frame."""
    light = torch.linspace(0, 3, D)[None, None, :, None, None]
    return clips(n) + light


def drift_solves(level: str) -> float:
    """Return how often frames sorted by their mean, forwards or backwards, are in true order."""
    method, views = prediction(level=level, orders_per_clip=1), drifting()
    pieces, orders, _ = method.questions(views, batch(views))
    right = 0
    for i in range(len(views)):
        means = pieces[i, orders[i, 0]].mean(dim=(1, 2, 3, 4))
        by_light = orders[i, 0][means.argsort()].tolist()
        right += by_light in ([0, 1, 2, 3], [3, 2, 1, 0])
    return right / len(views)


def test_light_that_drifts_gives_the_order_away_unless_pieces_are_levelled() -> None:
    assert drift_solves("none") > 0.95
    assert drift_solves("image") < 0.3  # 2 of 24 by chance
    assert drift_solves("unit") < 0.3


def seams_solve(**changes: object) -> float:
    """Return how often the smoothest of all layouts of cubes in space is the true one."""
    method = puzzle(layout="space", orders_per_clip=1, **changes)
    coarse = torch.randn(64, 1, 1, 5, 5, generator=rng(1))
    views = torch.nn.functional.interpolate(coarse, size=(1, PX, PX), mode="trilinear")
    views = views.expand(-1, -1, D, -1, -1).contiguous()
    cubes, orders, answers, _ = method.puzzles(views, batch(views), "space")
    right = 0
    for i in range(len(views)):
        puzzled, steps = cubes[i, orders[i, 0]], []
        for order in method.orders.tolist():
            laid = [puzzled[order.index(place)][0, 0] for place in range(4)]
            across = (laid[0][:, -1] - laid[1][:, 0]).abs() + (laid[2][:, -1] - laid[3][:, 0]).abs()
            down = (laid[0][-1] - laid[2][0]).abs() + (laid[1][-1] - laid[3][0]).abs()
            steps.append(float((across + down).sum()))
        right += int(np.argmin(steps)) == answers[i].item()
    return right / len(views)


def test_borders_that_run_on_give_the_puzzle_away_unless_cubes_leave_a_gap() -> None:
    open_border = seams_solve(cube_share=1)
    guarded = seams_solve(cube_share=0.75, level="unit")
    assert open_border > 0.8
    assert guarded < open_border - 0.3


def test_a_piece_in_colour_may_show_one_channel_and_is_moved_as_a_whole() -> None:
    method = verification(channels=3, one_channel=1, moved=0.25)
    views = clips(8, channels=3)
    starts = torch.tensor([[0, 3, 6, 9]]).expand(8, -1)
    pieces = taken(views, starts, 2)
    shown = disguised(pieces, method.config, batch(views))
    assert shown.shape == pieces.shape
    assert torch.equal(shown[:, :, 0], shown[:, :, 1])
    assert torch.equal(shown[:, :, 0], shown[:, :, 2])
    still = pieces[:, :, :, :1].expand(-1, -1, -1, 2, -1, -1)
    moved = disguised(still, method.config, batch(views))
    assert torch.equal(moved[:, :, :, 0], moved[:, :, :, 1])
    same = disguised(pieces, verification(channels=3).config, batch(views))
    assert torch.equal(same, pieces)


def test_levelled_pieces_have_the_mean_of_their_clip() -> None:
    config = verification(level="image").config
    pieces = taken(drifting(4), torch.tensor([[0, 4, 8, 11]]).expand(4, -1), 1)
    shown = disguised(pieces, config, batch(drifting(4)))
    means = shown.mean(dim=(2, 3, 4, 5))
    torch.testing.assert_close(means, pieces.mean(dim=(1, 2, 3, 4, 5))[:, None].expand(-1, 4))


def test_a_clip_too_short_for_the_question_is_refused() -> None:
    with pytest.raises(BackboneError, match="clips of 4 frames or more, got clips of 3"):
        built(OrderVerification, OrderVerificationConfig(), depth=3)
    with pytest.raises(BackboneError, match="clips of 8 frames or more"):
        built(OrderPrediction, OrderPredictionConfig(frames_each=2), depth=7)


def test_what_several_processes_draw_is_what_one_would_have_drawn() -> None:
    views, method = clips(8), prediction()
    whole = method.questions(views, batch(views, 7))
    for first in (0, 4):
        part = views[first : first + 4]
        place = torch.arange(4) + first
        mine = Batch(views=(part,), place=place, patient=place, rng=rng(7), n_whole=8, first=first)
        for all_of_them, own in zip(whole, method.questions(part, mine), strict=True):
            assert torch.equal(all_of_them[first : first + 4], own)
    assert uniform(batch(views), 2).shape == (8, 2)


def test_a_single_frame_is_held_for_as_long_as_the_backbone_needs() -> None:
    pieces = taken(clips(2), torch.tensor([[0, 4, 8]]).expand(2, -1), 1)
    frame = Frame(PX, D, 1)
    cnn, net = (backbone_config(name).build(frame) for name in (CNN, {"family": "frame_net"}))
    vit = backbone_config({"family": "small_vit", "patch_px": 4, "embed_width": 16}).build(frame)
    assert held(pieces, cnn, alone=False) is pieces
    assert held(pieces, net, alone=True) is pieces
    twice = held(pieces, cnn, alone=True)
    assert twice.shape[3] == 2
    assert torch.equal(twice[:, :, :, :1], pieces)
    assert held(pieces, vit, alone=False).shape[3] % vit.patch[0] == 0
