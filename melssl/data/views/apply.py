"""``apply_view``: from samples and what was drawn for them to views, on the samples' device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from melssl.data import colour
from melssl.data.resample import blur_matrix, blur_radius, crop_matrix, resample, resample_depth
from melssl.data.views.params import ViewParams
from melssl.frame import RGB

CHUNK_VALUES = 600_000  # float32 values worked on at once: about a core's second-level cache


@torch.no_grad()
def apply_view(images: Tensor, params: ViewParams) -> Tensor:
    """Return normalised views (B, C, S, S) float32 of ``images`` (B, C, H, W), on their device.

    Volumes and clips are (B, C, D, H, W), their views (B, C, D', S, S). Three channels are RGB; of
    any other number all are normalised by the means of ``mean`` and ``std``. ``images`` are uint8,
    or float in 0..1; any memory layout. Equal to torchvision's functions on single float images up
    to about 1e-5; whatever no view of the batch asks for is not computed.

    Raises:
        ValueError: images of another number or size than the parameters were drawn for.

    """
    n, channels, *sides = images.shape
    expected = (len(params), *params.source_sides)
    typed = images.dtype == torch.uint8 or images.is_floating_point()
    if (n, *sides) != expected or not typed:
        shape = (expected[0], RGB, *expected[1:])
        raise ValueError(
            f"apply_view: expected uint8 or float images {shape}, of any number of channels, got"
            f" {images.dtype} {tuple(images.shape)}; sample the parameters for these images"
        )
    views = torch.empty(n, channels, *params.sides, device=images.device)
    rows = max(1, n)
    if images.device.type == "cpu":
        rows = max(1, CHUNK_VALUES * torch.get_num_threads() // max(views[:1].numel(), 1))
    for start in range(0, len(images), rows):
        part = slice(start, start + rows)
        _render(images[part], params[part], views[part])
    return views


def _render(images: Tensor, params: ViewParams, out: Tensor) -> None:
    device = images.device
    x = _geometry(images, params)
    _change(x, params.quarter_turns % 2 == 1, lambda part, _: part.transpose(-2, -1))
    _colour(x.flatten(2, -2), params, out.flatten(2, -2))
    boxes = params.erase.to(device)
    _change(out, params.erase[:, 2] > 0, lambda part, rows: _erased(part, boxes[rows]))


def _colour(x: Tensor, params: ViewParams, out: Tensor) -> None:
    """Change and normalise (B, C, H, W); the slices of a volume lie one below the other."""
    device, coloured = x.device, x.shape[1] == RGB
    if (params.brightness != 1).any():  # the factor itself is in the geometry's matrices
        x.clamp_(0, 1)
    if (params.contrast != 1).any():
        x = colour.adjust_contrast_(x, params.contrast.to(device))
    if coloured and (params.saturation != 1).any():
        x = colour.adjust_saturation(x, params.saturation.to(device))
    if coloured:
        hue = params.hue.to(device)
        _change(x, params.hue != 0, lambda part, rows: colour.adjust_hue(part, hue[rows]))
        _change(x, params.grayscale, lambda part, _: colour.grayscale(part))
    threshold = params.solarise_threshold
    _change(x, params.solarise, lambda part, _: colour.solarise(part, threshold))
    mean, std = (x.new_tensor(values)[:, None, None] for values in (params.mean, params.std))
    if not coloured:
        mean, std = mean.mean(dim=0), std.mean(dim=0)
    torch.sub(x, mean, out=out).div_(std)


def _change(x: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Replace the chosen rows of ``x`` by ``change(those rows, their numbers)``."""
    if chosen.any():
        rows = chosen.nonzero()[:, 0].to(x.device)
        x.index_copy_(0, rows, change(x[rows], rows))


def _geometry(images: Tensor, params: ViewParams) -> Tensor:
    """Crop, resize, flips, blur and brightness; quarter turns up to the transposition."""
    device = images.device
    gain = params.brightness.to(device) * (1 / 255 if images.dtype == torch.uint8 else 1)
    pixels = images.to(torch.float32, memory_format=torch.contiguous_format)
    if params.span is not None and params.depth_flip is not None:
        span, back = params.span.to(device), params.depth_flip.to(device)
        pixels = resample_depth(pixels, span, back, params.sides[0])
    turns = params.quarter_turns
    mirror = params.horizontal_flip ^ (turns == 1) ^ (turns == 2)
    upset = params.vertical_flip ^ (turns == 2) ^ (turns == 3)
    blurred = params.blur_sigma_px > 0
    whole = torch.tensor([0, 0, *params.source_px])
    resized = params.source_px != (params.size_px, params.size_px)
    if not (resized or (mirror | upset | blurred).any() or (params.crop != whole).any()):
        return pixels * gain.view(-1, *[1] * (pixels.ndim - 1))
    top, left, height, width = params.crop.to(device, torch.float32).unbind(1)
    rows = crop_matrix(top, height, upset.to(device), params.size_px, params.source_px[0])
    columns = crop_matrix(left, width, mirror.to(device), params.size_px, params.source_px[1])
    if blurred.any():
        sigma = params.blur_sigma_px[blurred]
        radius = blur_radius(float(sigma.max()), params.size_px)
        blur = blur_matrix(sigma.to(device), radius, params.size_px)
        _change(rows, blurred, lambda part, _: blur @ part)
        _change(columns, blurred, lambda part, _: blur @ part)
    planes = resample(pixels.flatten(1, -3), rows.mul_(gain[:, None, None]), columns)
    return planes.view(*pixels.shape[:-2], *planes.shape[-2:])


def _erased(views: Tensor, boxes: Tensor) -> Tensor:
    place = torch.arange(views.shape[-1], device=views.device)
    top, left, height, width = (edge[:, None] for edge in boxes.unbind(1))
    rows = (place >= top) & (place < top + height)
    columns = (place >= left) & (place < left + width)
    inside = rows[:, :, None] & columns[:, None, :]
    return views.masked_fill(inside.view(-1, *[1] * (views.ndim - 3), *inside.shape[1:]), 0.0)
