"""Images and volumes as patches and back, and where a patch lies; in any number of dimensions."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from lightly.models.utils import get_1d_sine_cosine_positional_embedding_from_positions
from torch import Tensor
from torch.nn import functional as F


def patchify(images: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Return the patches (B, N, P C) of images (B, C, *sides), channels last within each patch.

    Patches and the P places of one are in row-major order.
    """
    n_dims = len(patch)
    cut = [size for side, p in zip(images.shape[2:], patch, strict=True) for size in (side // p, p)]
    cells = images.reshape(*images.shape[:2], *cut)
    grid, within = range(2, 2 + 2 * n_dims, 2), range(3, 2 + 2 * n_dims, 2)
    return cells.permute(0, *grid, *within, 1).reshape(
        len(images), prod(cut[::2]), prod(patch) * images.shape[1]
    )


def unpatchify(patches: Tensor, grid: tuple[int, ...], patch: tuple[int, ...]) -> Tensor:
    """Return the images (B, C, *sides) whose ``patchify`` is ``patches`` (B, N, P C)."""
    cells = patches.reshape(len(patches), *grid, *patch, -1)
    return _laid_out(cells.movedim(-1, 1), grid, patch)


def pixels_of_places(features: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Return images (B, C, *sides) of a map (B, C P, *grid) whose channels are a place's pixels.

    It is torch's ``pixel_shuffle``, for patches of any sides in any number of dimensions.
    """
    if len(patch) == 2 and patch[0] == patch[1]:
        return F.pixel_shuffle(features, patch[0])
    grid = tuple(features.shape[2:])
    cells = features.reshape(len(features), -1, *patch, *grid)
    n_dims = len(patch)
    places, within = range(2 + n_dims, 2 + 2 * n_dims), range(2, 2 + n_dims)
    return _laid_out(cells.permute(0, 1, *places, *within), grid, patch)


def within(images: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Return the first places of (B, C, ...) along each axis; a net may round its last map up."""
    for axis, side in enumerate(sides, start=2):
        images = images.narrow(axis, 0, side)
    return images


def enlarged(units: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Return (B, *sides) in which every unit of (B, *grid) covers an equal box."""
    for axis, side in enumerate(sides, start=1):
        units = units.repeat_interleave(side // units.shape[axis], dim=axis)
    return units


def sine_positions(grid: tuple[int, ...], width: int) -> Tensor:
    """Return positions (N, width) of a row-major grid: sines and cosines, the last axis first.

    Each axis has an equal, even share of the width; what is left over is 0. In two dimensions they
    are MAE's (He et al. 2021).
    """
    share = 2 * (width // (2 * len(grid)))
    places = np.meshgrid(*[np.arange(side, dtype=np.float32) for side in grid], indexing="ij")
    waves = [
        get_1d_sine_cosine_positional_embedding_from_positions(share, place)
        for place in reversed(places)
    ]
    positions = np.zeros((prod(grid), width), dtype=np.float32)
    positions[:, : share * len(grid)] = np.concatenate(waves, axis=1)
    return torch.from_numpy(positions)


def _laid_out(cells: Tensor, grid: tuple[int, ...], patch: tuple[int, ...]) -> Tensor:
    """Return (B, C, *sides) of (B, C, *grid, *patch)."""
    n_dims = len(grid)
    order = [axis + part for axis in range(n_dims) for part in (0, n_dims)]
    sides = [g * p for g, p in zip(grid, patch, strict=True)]
    return cells.permute(0, 1, *[2 + axis for axis in order]).reshape(*cells.shape[:2], *sides)
