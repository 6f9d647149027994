"""Geometry as two small matrices per image, in one pass: view = rows @ image @ columns^T.

Cropping, resizing, flipping and Gaussian blur are linear and separable, so each is a matrix along
the height and one along the width; they are multiplied together before they meet a pixel.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

TRIES = 10
FAR = 1e9


def sample_boxes(
    n: int,
    frame: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw n boxes (n, 4) int64 ``top, left, height, width`` inside ``frame`` (height, width).

    Area as a share of the frame is uniform in ``scale``, width over height log-uniform in
    ``ratio``; the first of ten tries that fits is kept, as in Szegedy et al. 2015. The second
    result (n,) says which rows fitted; the others hold zeros.
    """
    height, width = frame
    area, aspect, down, right = torch.rand(4, n, TRIES, generator=rng, dtype=torch.float64)
    area = (scale[0] + (scale[1] - scale[0]) * area) * (height * width)
    low, high = torch.tensor(ratio, dtype=torch.float64).log()
    aspect = (low + (high - low) * aspect).exp()
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    top = (down * (height - h + 1)).floor()
    left = (right * (width - w + 1)).floor()
    first = fits.long().argmax(1)
    chosen = torch.stack([top, left, h, w], dim=2)[torch.arange(n), first].long()
    fitted = fits.any(1)
    return chosen * fitted[:, None], fitted


def sample_spans(n: int, depth: int, scale: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Draw n spans (n, 2) int64 ``start, length`` inside ``depth``; the share is uniform."""
    share, place = torch.rand(2, n, generator=rng, dtype=torch.float64)
    length = ((scale[0] + (scale[1] - scale[0]) * share) * depth).round().clamp(1, depth)
    start = (place * (depth - length + 1)).floor()
    return torch.stack([start, length], dim=1).long()


def central_box(frame: tuple[int, int], ratio: tuple[float, float]) -> Tensor:
    """Return the largest central box (4,) of ``frame`` whose width over height is in ``ratio``."""
    height, width = frame
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return torch.tensor([(height - h) // 2, (width - w) // 2, h, w])


def crop_matrix(
    start: Tensor, length: Tensor, flip: Tensor, size_px: int, source_px: int
) -> Tensor:
    """Return (B, size, source): crop ``[start, start + length)``, resize it, flip it where asked.

    Rows hold the triangle filter of antialiased bilinear resizing, as wide as one output pixel (at
    least one input pixel), cut at the crop's edge and normalised. Inputs are (B,) on one device.
    """
    place = torch.arange(size_px, device=start.device) + 0.5
    step = (length / size_px)[:, None]
    reach = step.clamp(min=1)
    centre = torch.where(flip[:, None], size_px - place, place) * step
    pixel = torch.arange(source_px, device=start.device) + 0.5 - start[:, None]
    outside = (pixel < 0) | (pixel > length[:, None])
    pixel = torch.where(outside, FAR, pixel)  # no filter reaches there
    weight = (pixel / reach)[:, None, :] - (centre / reach)[:, :, None]
    weight.abs_().neg_().add_(1).clamp_min_(0)
    return weight.div_(weight.sum(2, keepdim=True))


def blur_radius(sigma_px: float, size_px: int) -> int:
    """Return where a Gaussian kernel ends: at four sigma, or where reflection would run out."""
    return min(int(-(-4 * sigma_px // 1)), size_px - 1)


def blur_matrix(sigma_px: Tensor, radius: int, size_px: int) -> Tensor:
    """Return (B, size, size): Gaussian blur of ``sigma_px`` (B,) > 0, edges reflected.

    Each kernel ends at its own ``blur_radius`` and sums to one; ``radius`` is the largest of them.
    """
    steps = torch.arange(radius + 1, device=sigma_px.device)
    taps = torch.exp(-0.5 * (steps / sigma_px[:, None]) ** 2)
    # 1e-8: far tails of a narrow kernel are denormal numbers, which slow every product with them
    taps.masked_fill_((taps < 1e-8) | (steps >= 4 * sigma_px[:, None] + 1), 0)
    taps = taps / (2 * taps.sum(1, keepdim=True) - 1)
    shifts = _reflected_shifts(radius, size_px, sigma_px.device)
    return (taps @ shifts).view(-1, size_px, size_px)


@lru_cache(maxsize=16)
def _reflected_shifts(radius: int, size_px: int, device: torch.device) -> Tensor:
    """Row k: the matrix that adds the pixels k to the left and k to the right, as (size * size)."""
    place = torch.arange(size_px)
    last = size_px - 1
    shifts = torch.zeros(radius + 1, size_px, size_px)
    shifts[0] = torch.eye(size_px)
    for step in range(1, radius + 1):
        shifts[step, place, (place - step).abs()] += 1
        shifts[step, place, last - (last - place - step).abs()] += 1
    return shifts.view(radius + 1, -1).to(device)


def resample_depth(images: Tensor, span: Tensor, flip: Tensor, depth: int) -> Tensor:
    """Return (B, C, depth, H, W): the slices of ``span`` (B, 2), resized, reversed where asked.

    ``images`` are (B, C, D, H, W) float. Where no span has another length than the view, slices
    are taken as they are.
    """
    start, length = span.unbind(1)
    n, channels, source, *plane = images.shape
    if (length == depth).all():
        if source == depth and not flip.any():
            return images
        place = torch.arange(depth, device=images.device)
        place = start[:, None] + torch.where(flip[:, None], depth - 1 - place, place)
        return images[torch.arange(n, device=images.device)[:, None], :, place].transpose(1, 2)
    along = crop_matrix(start.float(), length.float(), flip, depth, source)
    flat = images.transpose(1, 2).reshape(n, source, -1)
    return torch.bmm(along, flat).view(n, depth, channels, *plane).transpose(1, 2)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows @ image @ columns^T per channel: (B, 3, H, W) float to (B, 3, S, S)."""
    b, channels, height, width = images.shape
    size_px = rows.shape[1]
    flat = images.reshape(b, channels * height, width)
    across = torch.bmm(flat, columns.transpose(1, 2)).view(b, channels, height, -1)
    out = images.new_empty(b, channels, size_px, columns.shape[1])
    for channel in range(channels):  # three strided products beat one that must copy ``rows``
        torch.bmm(rows, across[:, channel], out=out[:, channel])
    return out
