"""Which cells of a grid a masked method hides: single ones, rectangles, or grown groups.

A grid is one of patches or of larger units, in two or more dimensions, cells in row-major order; a
rectangle has as many. Every shape hides exactly as many cells as asked for, so that a ratio means
the same whatever the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor

MaskShape = Literal["random", "block", "group"]
Grid = tuple[int, ...]
BLOCK_SHARE = 1 / 12  # of the grid: 16 of 196 patches, the least block of BEiT
BLOCK_ASPECT = 0.3  # rectangles are between this and its inverse, as BEiT's
GROUP_SHARE = 0.1  # of the grid: GMML's largest square has a side of 0.3


def hidden_count(n_cells: int, ratio: float) -> int:
    """Return ``round(ratio * n_cells)``, at least one and not all: the nearest the grid allows."""
    return min(max(round(ratio * n_cells), 1), n_cells - 1)


def draw_masks(shape: MaskShape, grid: Grid, counts: Tensor, rng: torch.Generator) -> Tensor:
    """Return masks (B, cells) bool on the CPU; row b is True in ``counts[b]`` cells."""
    return MASK_SHAPES[shape](grid, counts, rng)


def masks_of_ratio(
    shape: MaskShape, n_samples: int, grid: Grid, ratio: float, rng: torch.Generator
) -> Tensor:
    """Return masks (B, cells) bool that all hide ``hidden_count`` cells."""
    counts = torch.full((n_samples,), hidden_count(prod(grid), ratio))
    return draw_masks(shape, grid, counts, rng)


def places(chosen: Tensor) -> Tensor:
    """Return the indices (B, K), ascending, of the K True cells in every row of (B, N)."""
    return chosen.nonzero()[:, 1].view(len(chosen), -1)


def rectangles(boxes: Tensor, grid: Grid) -> Tensor:
    """Return masks (B, N) of boxes (B, 2 n) in cells: n corners (``top, left``), then n lengths."""
    n_dims = len(grid)
    mask = torch.ones((len(boxes), *[1] * n_dims), dtype=torch.bool, device=boxes.device)
    for axis, side in enumerate(grid):
        place = torch.arange(side, device=boxes.device)
        start, length = boxes[:, axis, None], boxes[:, n_dims + axis, None]
        inside = (place >= start) & (place < start + length)
        mask = mask & inside.view(len(boxes), *[side if a == axis else 1 for a in range(n_dims)])
    return mask.flatten(1)


def placed(lengths: Sequence[Tensor], grid: Grid, rng: torch.Generator) -> Tensor:
    """Return boxes (B, 2 n) of the given lengths, n of (B,), at random places inside the grid."""
    size = torch.stack([*lengths], dim=1)
    room = torch.tensor(grid) - size + 1
    corner = (torch.rand(size.shape, generator=rng) * room).long()
    return torch.cat([corner, size], dim=1)


def sized(area: Tensor, aspects: Sequence[Tensor], grid: Grid) -> tuple[Tensor, ...]:
    """Return n lengths (B,), in cells, of boxes of ``area`` cells, one aspect fewer than n.

    The last aspect is of height over width; those before it lengthen the axes before by their root.
    """
    *earlier, last = aspects
    lengths = []
    for n_axes, aspect in zip(range(len(grid), 2, -1), earlier, strict=True):
        lengths.append(area ** (1 / n_axes) * aspect.sqrt())
        area = area / lengths[-1]
    lengths += [(area * last).sqrt(), (area / last).sqrt()]
    whole = (length.round().long() for length in lengths)
    return tuple(length.clamp(1, side) for length, side in zip(whole, grid, strict=True))


def _random(grid: Grid, counts: Tensor, rng: torch.Generator) -> Tensor:
    """Hide cells drawn one by one (He et al. 2021, section 3)."""
    noise = torch.rand(len(counts), prod(grid), generator=rng)
    return _least(noise, counts)


def _block(grid: Grid, counts: Tensor, rng: torch.Generator) -> Tensor:
    """Hide rectangles until there are enough cells; of the last one whole rows are taken first.

    Areas are uniform from ``BLOCK_SHARE`` of the grid to what is missing, shapes log-uniform (Bao
    et al. 2021, algorithm 1).
    """
    n_cells, bound = prod(grid), -torch.tensor(BLOCK_ASPECT).log()
    hidden = torch.zeros(len(counts), n_cells, dtype=torch.bool)
    while (missing := counts - hidden.sum(dim=1)).any():
        share, *shapes = torch.rand(len(grid), len(counts), generator=rng)
        least = BLOCK_SHARE * n_cells
        area = least + share * (missing - least).clamp(min=0)
        lengths = sized(area, [((2 * shape - 1) * bound).exp() for shape in shapes], grid)
        new = rectangles(placed(lengths, grid, rng), grid) & ~hidden
        hidden |= new & (new.cumsum(dim=1) <= missing[:, None])
    return hidden


def _group(grid: Grid, counts: Tensor, rng: torch.Generator) -> Tensor:
    """Hide what grows first from a few seeds: every hidden cell is joined to one by hidden cells.

    Growing into a cell takes a random time; the cells reached earliest are hidden. It is Atito et
    al.'s idea of corrupting groups of connected patches (2022, GMML), on the grid of tokens.
    """
    n_cells = prod(grid)
    noise, pace = torch.rand(2, len(counts), n_cells, generator=rng)
    n_seeds = (counts / (GROUP_SHARE * n_cells)).round().long().clamp(min=1)
    own = (0.1 + pace).view(-1, *grid)
    reached = torch.where(_least(noise, n_seeds), 0.0, torch.inf).view(-1, *grid)
    before = torch.full_like(reached, torch.nan)
    while not torch.equal(before, reached):
        before = reached
        beside = [
            _moved(reached, axis, step) for axis in range(1, reached.ndim) for step in (1, -1)
        ]
        reached = torch.minimum(reached, torch.stack(beside).amin(dim=0) + own)
    return _least(reached.flatten(1), counts)


def _moved(values: Tensor, axis: int, step: int) -> Tensor:
    """Return values (B, *grid) moved by one place along an axis, infinite where none came from."""
    moved = values.roll(step, axis)
    moved.select(axis, 0 if step == 1 else -1).fill_(torch.inf)
    return moved


def _least(values: Tensor, counts: Tensor) -> Tensor:
    """Return a mask (B, N) of the ``counts[b]`` least values in each row."""
    rank = values.argsort(dim=1).argsort(dim=1)
    return rank < counts[:, None]


MASK_SHAPES: dict[str, Callable[[Grid, Tensor, torch.Generator], Tensor]] = {
    "random": _random,
    "block": _block,
    "group": _group,
}
