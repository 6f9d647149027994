"""ViewRecipe: how augmented versions of an image are made, for a whole batch at once on its device.

Parameters are sampled first, on the CPU, and applied after: they can be logged, replayed and cut
into slices, so that several devices together see the views that one would have seen.

The order is fixed: crop, resize, flips, blur, quarter turn, brightness, contrast, saturation, hue,
grayscale, solarise, normalise, erase. A random order of the colour changes (torchvision's
ColorJitter) differs from it only where values are clipped, and would forbid working on a batch at
once; blur comes before colour because there it costs no pass over the pixels of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
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
    sample_boxes,
)
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
    mean: Channels = Field((0.485, 0.456, 0.406), description="subtracted per channel, in 0..1")
    std: tuple[Positive, Positive, Positive] = Field(
        (0.229, 0.224, 0.225), description="divided by per channel, in 0..1"
    )

    def sample(
        self,
        n: int,
        source_px: int | tuple[int, int],
        rng: torch.Generator,
        size_px: int | None = None,
    ) -> ViewParams:
        """Draw the parameters of n views of images of ``source_px`` (a side, or height and width).

        ``size_px`` is the side of the view where the recipe leaves it open (None: the source's
        shorter side). ``rng`` lives on the CPU. Every number is drawn whether it is used or not, so
        two recipes that differ in one strength share the rest of their draws.
        """
        frame = (source_px, source_px) if isinstance(source_px, int) else source_px
        side = self.size_px or round(self.size_share * (size_px or min(frame)))

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(n, generator=rng)

        def chance(probability: float) -> Tensor:
            return torch.rand(n, generator=rng) < probability

        def factor(strength: float, active: Tensor) -> Tensor:
            return torch.where(active, uniform(1 - strength, 1 + strength), 1.0)

        crop, fitted = sample_boxes(n, frame, self.crop_scale, self.crop_ratio, rng)
        spot, _ = sample_boxes(n, (side, side), self.erase_scale, self.erase_ratio, rng)
        jittered = chance(self.jitter)
        return ViewParams(
            source_px=frame,
            size_px=side,
            crop=torch.where(fitted[:, None], crop, central_box(frame, self.crop_ratio)),
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


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewParams:
    """What was drawn for n views: one row per view, on the CPU; ``params[rows]`` cuts rows out.

    Boxes are (n, 4) int64 ``top, left, height, width``: ``crop`` in the image, ``erase`` in the
    finished view (height 0: none). Flips come before ``quarter_turns`` (0..3, counter-clockwise).
    Factors of 1, a sigma of 0 and a hue of 0 change nothing.
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
    """Return normalised views (B, 3, S, S) float32 of ``images`` (B, 3, H, W), on their device.

    ``images`` are uint8, or float in 0..1; any memory layout. Equal to torchvision's functions on
    single float images up to about 1e-5; whatever no view of the batch asks for is not computed.

    Raises:
        ValueError: images of another number or size than the parameters were drawn for.

    """
    expected = (len(params), 3, *params.source_px)
    if images.shape != expected or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(
            f"apply_view: expected uint8 or float images {expected}, got {images.dtype}"
            f" {tuple(images.shape)}; sample the parameters for these images"
        )
    side = params.size_px
    views = torch.empty(len(images), 3, side, side, device=images.device)
    rows = max(1, len(images))
    if images.device.type == "cpu":
        rows = max(1, CHUNK_VALUES * torch.get_num_threads() // (3 * side * side))
    for start in range(0, len(images), rows):
        part = slice(start, start + rows)
        _render(images[part], params[part], views[part])
    return views


def _render(images: Tensor, params: ViewParams, out: Tensor) -> None:
    device = images.device
    x = _geometry(images, params)
    _change(x, params.quarter_turns % 2 == 1, lambda part, _: part.transpose(2, 3))
    if (params.brightness != 1).any():  # the factor itself is in the geometry's matrices
        x.clamp_(0, 1)
    if (params.contrast != 1).any():
        x = colour.adjust_contrast_(x, params.contrast.to(device))
    if (params.saturation != 1).any():
        x = colour.adjust_saturation(x, params.saturation.to(device))
    hue = params.hue.to(device)
    _change(x, params.hue != 0, lambda part, rows: colour.adjust_hue(part, hue[rows]))
    _change(x, params.grayscale, lambda part, _: colour.grayscale(part))
    threshold = params.solarise_threshold
    _change(x, params.solarise, lambda part, _: colour.solarise(part, threshold))
    mean, std = (x.new_tensor(values)[:, None, None] for values in (params.mean, params.std))
    torch.sub(x, mean, out=out).div_(std)
    boxes = params.erase.to(device)
    _change(out, params.erase[:, 2] > 0, lambda part, rows: _erased(part, boxes[rows]))


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
    turns = params.quarter_turns
    mirror = params.horizontal_flip ^ (turns == 1) ^ (turns == 2)
    upset = params.vertical_flip ^ (turns == 2) ^ (turns == 3)
    blurred = params.blur_sigma_px > 0
    whole = torch.tensor([0, 0, *params.source_px])
    resized = params.source_px != (params.size_px, params.size_px)
    if not (resized or (mirror | upset | blurred).any() or (params.crop != whole).any()):
        return pixels * gain[:, None, None, None]
    top, left, height, width = params.crop.to(device, torch.float32).unbind(1)
    rows = crop_matrix(top, height, upset.to(device), params.size_px, params.source_px[0])
    columns = crop_matrix(left, width, mirror.to(device), params.size_px, params.source_px[1])
    if blurred.any():
        sigma = params.blur_sigma_px[blurred]
        radius = blur_radius(float(sigma.max()), params.size_px)
        blur = blur_matrix(sigma.to(device), radius, params.size_px)
        _change(rows, blurred, lambda part, _: blur @ part)
        _change(columns, blurred, lambda part, _: blur @ part)
    return resample(pixels, rows.mul_(gain[:, None, None]), columns)


def _erased(views: Tensor, boxes: Tensor) -> Tensor:
    place = torch.arange(views.shape[-1], device=views.device)
    top, left, height, width = (edge[:, None] for edge in boxes.unbind(1))
    rows = (place >= top) & (place < top + height)
    columns = (place >= left) & (place < left + width)
    return views.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


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
    # For embedding: the whole image, or its central square.
    "none": ViewRecipe(),
}
