"""ViewRecipe: how augmented versions of a sample are made, for a whole batch at once on its device.

Parameters are sampled first, on the CPU, and applied after: they can be logged, replayed and cut
into slices, so that several devices together see the views that one would have seen.

The order is fixed: crop, resize, flips, blur, quarter turn, brightness, contrast, saturation, hue,
grayscale, solarise, normalise, erase. A random order of the colour changes (torchvision's
ColorJitter) differs from it only where values are clipped, and would forbid working on a batch at
once; blur comes before colour because there it costs no pass over the pixels of its own.

What is done to a slice of a volume or a frame of a clip is done to all alike; only a crop or a flip
along the depth is of another kind. Colour changes need three channels and leave grey as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from melssl.data import colour
from melssl.data.resample import (
    blur_matrix,
    blur_radius,
    central_box,
    crop_matrix,
    resample,
    resample_depth,
    sample_boxes,
    sample_spans,
)
from melssl.errors import SpecError
from melssl.frame import RGB, Frame
from melssl.settings import Later, Settings

REFERENCE_PX = 224
CHUNK_VALUES = 600_000  # float32 values worked on at once: about a core's second-level cache


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("expected (low, high) with low <= high")
    return bounds


Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Shares = Annotated[tuple[Share, Share], AfterValidator(_ordered)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Channels = tuple[float, float, float]


class ViewRecipe(Settings):
    """How one view is made; the defaults do nothing but resize and normalise.

    Probabilities are per view, and views of one batch are drawn independently.
    """

    size_px: int | None = Field(None, ge=8, description="side of the view; None: the study's")
    size_share: Annotated[float, Later()] = Field(
        1.0, gt=0, le=1, description="side of the view as a share of the study's, for small crops"
    )
    crop_scale: Shares = Field((1, 1), description="area of the crop, share of the image")
    crop_ratio: Range = Field((1, 1), description="width over height of the crop, log-uniform")
    horizontal_flip: Probability = Field(0, description="probability of left and right swapped")
    vertical_flip: Probability = Field(0, description="probability of top and bottom swapped")
    quarter_turns: bool = Field(False, description="turn by 0, 90, 180 or 270 degrees, all alike")
    blur: Probability = Field(0, description="probability of a Gaussian blur")
    blur_sigma: Range = Field(
        (0.1, 2), description=f"in pixels of a {REFERENCE_PX}-pixel view; scales with size_px"
    )
    jitter: Probability = Field(0, description="probability of the next four, drawn together")
    brightness: Strength = Field(0, description="factor is uniform in 1 -+ this")
    contrast: Strength = Field(0, description="factor is uniform in 1 -+ this")
    saturation: Strength = Field(0, description="factor is uniform in 1 -+ this")
    hue: float = Field(0, ge=0, le=0.5, description="shift is uniform in -+ this, 1 a full circle")
    grayscale: Probability = Field(0, description="probability of losing all colour")
    solarise: Probability = Field(0, description="probability of inverting bright pixels")
    solarise_threshold: Probability = Field(0.5, description="bright: at or above this, in 0..1")
    erase: Probability = Field(0, description="probability of a box filled with the mean colour")
    erase_scale: Shares = Field((0.02, 0.33), description="area of that box, share of the view")
    erase_ratio: Range = Field((0.3, 3.3), description="width over height of it, log-uniform")
    depth_scale: Annotated[Shares, Later()] = Field(
        (1, 1), description="length of the crop along slices or frames, share of them"
    )
    depth_flip: Annotated[Probability, Later()] = Field(
        0, description="probability of slices in reverse order; of a clip, of time running back"
    )
    native_scale: Annotated[bool, Later()] = Field(
        False, description="the crop is as large as the view, so that nothing is resized"
    )
    mean: Channels = Field((0.485, 0.456, 0.406), description="subtracted per channel, in 0..1")
    std: tuple[Positive, Positive, Positive] = Field(
        (0.229, 0.224, 0.225), description="divided by per channel, in 0..1"
    )

    def sample(
        self,
        n: int,
        source: int | tuple[int, int] | Frame,
        rng: torch.Generator,
        size: int | Frame | None = None,
    ) -> ViewParams:
        """Draw the parameters of n views of samples of ``source`` (or a side, or height and width).

        ``size`` is what the view has where the recipe leaves it open (None: the source's shorter
        side and depth). ``rng`` lives on the CPU. Every number is drawn whether it is used or not,
        so two recipes that differ in one strength share the rest of their draws.

        Raises:
            SpecError: with ``native_scale``, a view that is larger than its source.

        """
        frame, depth = _plane_and_depth(source)
        side, deep = self._size(frame, depth, size)
        scale, ratio = self.crop_scale, self.crop_ratio
        if self.native_scale:
            _check_native(Frame(side, deep), Frame(min(frame), depth))
            scale, ratio = (side * side / (frame[0] * frame[1]),) * 2, (1.0, 1.0)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(n, generator=rng)

        def chance(probability: float) -> Tensor:
            return torch.rand(n, generator=rng) < probability

        def factor(strength: float, active: Tensor) -> Tensor:
            return torch.where(active, uniform(1 - strength, 1 + strength), 1.0)

        crop, fitted = sample_boxes(n, frame, scale, ratio, rng)
        spot, _ = sample_boxes(n, (side, side), self.erase_scale, self.erase_ratio, rng)
        jittered = chance(self.jitter)
        params = ViewParams(
            source_px=frame,
            size_px=side,
            crop=torch.where(fitted[:, None], crop, central_box(frame, ratio)),
            horizontal_flip=chance(self.horizontal_flip),
            vertical_flip=chance(self.vertical_flip),
            quarter_turns=uniform(0, 4).long().clamp_(max=3) * self.quarter_turns,
            blur_sigma_px=uniform(*self.blur_sigma) * chance(self.blur) * (side / REFERENCE_PX),
            brightness=factor(self.brightness, jittered),
            contrast=factor(self.contrast, jittered),
            saturation=factor(self.saturation, jittered),
            hue=uniform(-self.hue, self.hue) * jittered,
            grayscale=chance(self.grayscale),
            solarise=chance(self.solarise),
            solarise_threshold=self.solarise_threshold,
            mean=self.mean,
            std=self.std,
            erase=spot * chance(self.erase)[:, None],
        )
        if depth is None or deep is None:
            return params
        along = (deep / depth,) * 2 if self.native_scale else self.depth_scale
        return replace(
            params,
            source_depth=depth,
            size_depth=deep,
            span=sample_spans(n, depth, along, rng),
            depth_flip=chance(self.depth_flip),
        )

    def _size(
        self, frame: tuple[int, int], depth: int | None, size: int | Frame | None
    ) -> tuple[int, int | None]:
        """Return side and depth of the view."""
        wanted = size if isinstance(size, Frame) else Frame(size or min(frame), depth)
        side = self.size_px or round(self.size_share * wanted.side_px)
        if depth is None:
            return side, None
        return side, max(round(self.size_share * (wanted.depth or depth)), 1)


def _plane_and_depth(source: int | tuple[int, int] | Frame) -> tuple[tuple[int, int], int | None]:
    if isinstance(source, Frame):
        return (source.side_px, source.side_px), source.depth
    return ((source, source) if isinstance(source, int) else source), None


def _check_native(view: Frame, source: Frame) -> None:
    if any(wanted > there for wanted, there in zip(view.sides, source.sides, strict=True)):
        raise SpecError(
            f"views.native_scale: expected a view within the stored {source}, got {view}; store"
            " more with store_px, or see less with image_px"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewParams:
    """What was drawn for n views: one row per view, on the CPU; ``params[rows]`` cuts rows out.

    Boxes are (n, 4) int64 ``top, left, height, width``: ``crop`` in the image, ``erase`` in the
    finished view (height 0: none). Flips come before ``quarter_turns`` (0..3, counter-clockwise).
    Factors of 1, a sigma of 0 and a hue of 0 change nothing. Volumes and clips also have a ``span``
    (n, 2) int64 ``start, length`` along their ``source_depth``, and ``depth_flip`` (n,).
    """

    source_px: tuple[int, int]
    size_px: int
    crop: Tensor
    horizontal_flip: Tensor
    vertical_flip: Tensor
    quarter_turns: Tensor
    blur_sigma_px: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    solarise: Tensor
    solarise_threshold: float
    mean: Channels
    std: Channels
    erase: Tensor
    source_depth: int | None = None
    size_depth: int | None = None
    span: Tensor | None = None
    depth_flip: Tensor | None = None

    @property
    def source_sides(self) -> tuple[int, ...]:
        """Height and width of the sources, behind their depth if they have one."""
        return (() if self.source_depth is None else (self.source_depth,)) + self.source_px

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of the views, behind their depth if they have one."""
        plane = (self.size_px, self.size_px)
        return plane if self.size_depth is None else (self.size_depth, *plane)

    def __len__(self) -> int:
        return len(self.crop)

    def __getitem__(self, rows: slice | Tensor) -> ViewParams:
        cut = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                object.__setattr__(cut, name, value[rows])
        return cut


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


VIEW_PRESETS: dict[str, ViewRecipe] = {
    # Colour is a sign of disease and orientation is none: weak hue, no grayscale, every turn.
    "medical": ViewRecipe(
        crop_scale=(0.3, 1),
        crop_ratio=(3 / 4, 4 / 3),
        horizontal_flip=0.5,
        vertical_flip=0.5,
        quarter_turns=True,
        blur=0.3,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.05,
    ),
    # Chen et al. 2020 (SimCLR), appendix A, strength 1.
    "imagenet": ViewRecipe(
        crop_scale=(0.08, 1),
        crop_ratio=(3 / 4, 4 / 3),
        horizontal_flip=0.5,
        blur=0.5,
        jitter=0.8,
        brightness=0.8,
        contrast=0.8,
        saturation=0.8,
        hue=0.2,
        grayscale=0.2,
    ),
    # For supervised fine-tuning and for MAE.
    "weak": ViewRecipe(
        crop_scale=(0.6, 1),
        crop_ratio=(3 / 4, 4 / 3),
        horizontal_flip=0.5,
        vertical_flip=0.5,
        quarter_turns=True,
    ),
    # Light is no sign of disease in a normalised volume, and no axis has a sense.
    "volume": ViewRecipe(
        crop_scale=(0.3, 1),
        crop_ratio=(3 / 4, 4 / 3),
        horizontal_flip=0.5,
        vertical_flip=0.5,
        quarter_turns=True,
        jitter=0.8,
        brightness=0.2,
        contrast=0.4,
        depth_scale=(0.5, 1),
        depth_flip=0.5,
    ),
    # A probe or a camera is held upright, and time runs forward.
    "clip": ViewRecipe(
        crop_scale=(0.3, 1),
        crop_ratio=(3 / 4, 4 / 3),
        horizontal_flip=0.5,
        blur=0.3,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.05,
        depth_scale=(0.5, 1),
    ),
    # For embedding: the whole image, or its central square.
    "none": ViewRecipe(),
}
