"""Masks hide exactly what they are asked to, in the shape they are asked for."""

from math import prod

import pytest
import torch
from torch import Tensor

from melssl.methods.masking import (
    BLOCK_SHARE,
    GROUP_SHARE,
    MASK_SHAPES,
    draw_masks,
    hidden_count,
    masks_of_ratio,
    placed,
    places,
    rectangles,
    sized,
)

SHAPES = list(MASK_SHAPES)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("grid", [(2, 2), (4, 6), (8, 8), (2, 3, 4)])
def test_every_row_hides_the_count_that_was_asked_for(shape: str, grid: tuple[int, ...]) -> None:
    counts = torch.arange(prod(grid) + 1)  # none, all, and every number between
    masks = draw_masks(shape, grid, counts, rng())
    assert masks.dtype == torch.bool
    assert torch.equal(masks.sum(dim=1), counts)


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_depend_on_the_generator_alone(shape: str) -> None:
    first, second, other = (masks_of_ratio(shape, 4, (8, 8), 0.6, rng(s)) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_cell_is_hidden_now_and_then_and_seen_now_and_then(shape: str) -> None:
    share = masks_of_ratio(shape, 400, (6, 6), 0.5, rng()).float().mean(dim=0)
    assert share.min() > 0.1
    assert share.max() < 0.9


@pytest.mark.parametrize(("ratio", "hidden"), [(0.75, 12), (0.9, 14), (0.01, 1), (0.99, 15)])
def test_the_realised_ratio_is_the_nearest_that_the_grid_allows(ratio: float, hidden: int) -> None:
    assert hidden_count(16, ratio) == hidden
    mask = masks_of_ratio("random", 5, (4, 4), ratio, rng())
    kept, gone = places(~mask), places(mask)
    assert gone.shape == (5, hidden)
    together = torch.cat([kept, gone], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(16).expand(5, -1))


def test_a_random_mask_hides_the_first_of_a_random_order() -> None:
    mask = masks_of_ratio("random", 3, (4, 4), 0.75, rng(7))
    order = torch.rand(3, 16, generator=rng(7)).argsort(dim=1)  # as MAE drew from the beginning
    assert torch.equal(places(mask), order[:, :12].sort(dim=1).values)
    assert torch.equal(places(~mask), order[:, 12:].sort(dim=1).values)


@pytest.mark.parametrize("shape", ["block", "group"])
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_blocks_and_groups_leave_less_border_than_single_cells(shape: str, ratio: float) -> None:
    def border(name: str) -> float:
        masks = masks_of_ratio(name, 64, (8, 8), ratio, rng()).view(-1, 8, 8)
        down, across = masks[:, 1:] != masks[:, :-1], masks[:, :, 1:] != masks[:, :, :-1]
        return float(down.sum() + across.sum())

    assert border(shape) < 0.6 * border("random")


def components(mask: Tensor) -> int:
    """Count the connected parts of a mask (rows, columns) by flooding each."""
    left = {(int(r), int(c)) for r, c in mask.nonzero()}
    n = 0
    while left:
        n, edge = n + 1, [left.pop()]
        while edge:
            r, c = edge.pop()
            near = {(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)} & left
            left -= near
            edge += near
    return n


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.75])
def test_groups_are_connected_and_as_many_as_their_share_allows(ratio: float) -> None:
    masks = masks_of_ratio("group", 30, (8, 8), ratio, rng())
    most = max(round(hidden_count(64, ratio) / (GROUP_SHARE * 64)), 1)
    assert max(components(mask.view(8, 8)) for mask in masks) <= most


def test_a_block_is_a_rectangle_up_to_its_last_row() -> None:
    least = int(BLOCK_SHARE * 144)  # so few that most masks are one rectangle, cut short
    masks = masks_of_ratio("block", 60, (12, 12), least / 144, rng()).view(-1, 12, 12)
    whole = 0
    for mask in masks:
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        box = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        whole += bool(box.flatten()[:least].all()) and box[:-1].all().item() is True
    assert whole > 30


def test_rectangles_cover_their_boxes_and_boxes_lie_inside() -> None:
    height, width = sized(torch.tensor([2.0, 6.0, 99.0]), [torch.tensor([0.5, 1.5, 1.0])], (4, 6))
    assert height.tolist() == [1, 3, 4]
    assert width.tolist() == [2, 2, 6]
    boxes = placed([height, width], (4, 6), rng())
    masks = rectangles(boxes, (4, 6)).view(-1, 4, 6)
    for box, mask in zip(boxes.tolist(), masks, strict=True):
        top, left, h, w = box
        for row in range(4):
            for column in range(6):
                inside = top <= row < top + h and left <= column < left + w
                assert bool(mask[row, column]) == inside
        assert int(mask.sum()) == h * w
