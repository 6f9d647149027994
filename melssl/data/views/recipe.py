"""ViewRecipe: settings of augmented views, what is drawn from them, and recipes with names."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from melssl.data.resample import central_box, sample_boxes, sample_spans
from melssl.data.views.params import Channels, ViewParams
from melssl.errors import SpecError
from melssl.frame import Frame
from melssl.settings import Later, Settings

REFERENCE_PX = 224


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
