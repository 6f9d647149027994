"""Which cells of a grid a masked method hides: single ones, rectangles, or grown groups.

A grid is one of patches or of larger units, cells in row-major order. Every shape hides exactly as
many cells as asked for, so that a ratio means the same whatever the shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

MaskShape = Literal["random", "block", "group"]
BLOCK_SHARE = 1 / 12  # of the grid: 16 of 196 patches, the least block of BEiT
BLOCK_ASPECT = 0.3  # rectangles are between this and its inverse, as BEiT's
GROUP_SHARE = 0.1  # of the grid: GMML's largest square has a side of 0.3


def hidden_count(n_cells: int, ratio: float) -> int:
    """Return ``round(ratio * n_cells)``, at least one and not all: the nearest the grid allows."""
    return min(max(round(ratio * n_cells), 1), n_cells - 1)


def draw_masks(
    shape: MaskShape, grid: tuple[int, int], counts: Tensor, rng: torch.Generator
) -> Tensor:
    """Return masks (B, rows * columns) bool on the CPU; row b is True in ``counts[b]`` cells."""
    return MASK_SHAPES[shape](grid, counts, rng)


def masks_of_ratio(
    shape: MaskShape, n_samples: int, grid: tuple[int, int], ratio: float, rng: torch.Generator
) -> Tensor:
    """Return masks (B, rows * columns) bool that all hide ``hidden_count`` cells."""
    counts = torch.full((n_samples,), hidden_count(grid[0] * grid[1], ratio))
    return draw_masks(shape, grid, counts, rng)


def places(chosen: Tensor) -> Tensor:
    """Return the indices (B, K), ascending, of the K True cells in every row of (B, N)."""
    return chosen.nonzero()[:, 1].view(len(chosen), -1)


def rectangles(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return masks (B, N) of boxes (B, 4): ``top, left, height, width`` in cells."""
    rows, columns = (torch.arange(side) for side in grid)
    top, left, height, width = (edge[:, None] for edge in boxes.unbind(1))
    inside_rows = (rows >= top) & (rows < top + height)
    inside_columns = (columns >= left) & (columns < left + width)
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).flatten(1)


def placed(height: Tensor, width: Tensor, grid: tuple[int, int], rng: torch.Generator) -> Tensor:
    """Return boxes (B, 4) of the given sizes (B,) at random places inside the grid."""
    room = torch.stack([grid[0] - height, grid[1] - width], dim=1) + 1
    corner = (torch.rand(len(height), 2, generator=rng) * room).long()
    return torch.cat([corner, height[:, None], width[:, None]], dim=1)


def sized(area: Tensor, aspect: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return height and width (B,), in cells, of boxes of ``area`` and of height over width."""
    height = (area * aspect).sqrt().round().long().clamp(1, grid[0])
    width = (area / aspect).sqrt().round().long().clamp(1, grid[1])
    return height, width


def _random(grid: tuple[int, int], counts: Tensor, rng: torch.Generator) -> Tensor:
    """Hide cells drawn one by one (He et al. 2021, section 3)."""
    noise = torch.rand(len(counts), grid[0] * grid[1], generator=rng)
    return _least(noise, counts)


def _block(grid: tuple[int, int], counts: Tensor, rng: torch.Generator) -> Tensor:
    """Hide rectangles until there are enough cells; of the last one whole rows are taken first.

    Areas are uniform from ``BLOCK_SHARE`` of the grid to what is missing, shapes log-uniform (Bao
    et al. 2021, algorithm 1).
    """
    n_cells, bound = grid[0] * grid[1], -torch.tensor(BLOCK_ASPECT).log()
    hidden = torch.zeros(len(counts), n_cells, dtype=torch.bool)
    while (missing := counts - hidden.sum(dim=1)).any():
        share, shape = torch.rand(2, len(counts), generator=rng)
        least = BLOCK_SHARE * n_cells
        area = least + share * (missing - least).clamp(min=0)
        height, width = sized(area, ((2 * shape - 1) * bound).exp(), grid)
        new = rectangles(placed(height, width, grid, rng), grid) & ~hidden
        hidden |= new & (new.cumsum(dim=1) <= missing[:, None])
    return hidden


def _group(grid: tuple[int, int], counts: Tensor, rng: torch.Generator) -> Tensor:
    """Hide what grows first from a few seeds: every hidden cell is joined to one by hidden cells.

    Growing into a cell takes a random time; the cells reached earliest are hidden. It is Atito et
    al.'s idea of corrupting groups of connected patches (2022, GMML), on the grid of tokens.
    """
    n_cells = grid[0] * grid[1]
    noise, pace = torch.rand(2, len(counts), n_cells, generator=rng)
    n_seeds = (counts / (GROUP_SHARE * n_cells)).round().long().clamp(min=1)
    own = (0.1 + pace).view(-1, *grid)
    reached = torch.where(_least(noise, n_seeds), 0.0, torch.inf).view(-1, *grid)
    before = torch.full_like(reached, torch.nan)
    while not torch.equal(before, reached):
        before = reached
        edged = torch.nn.functional.pad(reached, (1, 1, 1, 1), value=torch.inf)
        beside = (edged[:, :-2, 1:-1], edged[:, 2:, 1:-1], edged[:, 1:-1, :-2], edged[:, 1:-1, 2:])
        reached = torch.minimum(reached, torch.stack(beside).amin(dim=0) + own)
    return _least(reached.flatten(1), counts)


def _least(values: Tensor, counts: Tensor) -> Tensor:
    """Return a mask (B, N) of the ``counts[b]`` least values in each row."""
    rank = values.argsort(dim=1).argsort(dim=1)
    return rank < counts[:, None]


MASK_SHAPES: dict[str, Callable[[tuple[int, int], Tensor, torch.Generator], Tensor]] = {
    "random": _random,
    "block": _block,
    "group": _group,
}
