"""Corruption: parts of an image replaced by noise, by another image of the batch, or by its mean.

What is corrupted is drawn first, on the CPU, as boxes; it is applied after, on the images' device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from melssl.methods.base import Batch, MethodConfig
from melssl.methods.masking import MaskShape
from melssl.methods.target import gathered
from melssl.space import Dimension

SIDES = (0.1, 0.3)  # of a group or block, share of the image's side; Atito et al. 2022 go to .3
FIXED_SHARE = 0.5  # up to it every image is corrupted alike, above it the share varies
CHUNK = 60  # boxes painted at once; the last one's weight is 4^-59, the least float32 is 4^-63


class CorruptionConfig(MethodConfig):
    """Settings that methods with corrupted images share; a subclass per method.

    A ``group`` is a rectangle of pixels wherever it falls, a ``block`` one along the borders of
    patches, ``random`` takes patches one by one. What is neither noise nor alien becomes 0, the
    mean colour.
    """

    mask_ratio: float = Field(
        0.75, gt=0, le=0.95, description="area corrupted: each image draws from min(.5, it) to it"
    )
    mask_shape: MaskShape = "group"
    noise_share: float = Field(0.6, ge=0, le=1, description="of that area, under N(0, 1) noise")
    alien_share: float = Field(0.4, ge=0, le=1, description="of that area, from another image")

    @model_validator(mode="after")
    def _one_area(self) -> Self:
        if self.noise_share + self.alien_share > 1 + 1e-9:
            raise ValueError(
                f"noise_share + alien_share must not pass 1, got {self.noise_share} + "
                f"{self.alien_share}; lower one of them"
            )
        return self

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="mask_ratio", low=0.3, high=0.9),
            Dimension(name="mask_shape", choices=("random", "block", "group")),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CorruptionParams:
    """What was drawn for B images, on the CPU.

    ``boxes`` (B, K, 4) int64 ``top, left, height, width`` in pixels; they may pass the border. The
    first ones that cover ``alien`` (B,) of the image show image ``donor`` (B,), those after up to
    ``alien_or_noise`` noise of ``noise_seed``, and those after up to ``total`` nothing.
    """

    boxes: Tensor
    alien: Tensor
    alien_or_noise: Tensor
    total: Tensor
    donor: Tensor
    noise_seed: int
    n_whole: int
    first: int = 0

    def of(self, batch: Batch) -> CorruptionParams:
        """Return this process's part; donors and noise stay those of the whole batch."""
        return replace(
            self,
            boxes=batch.mine(self.boxes),
            alien=batch.mine(self.alien),
            alien_or_noise=batch.mine(self.alien_or_noise),
            total=batch.mine(self.total),
            donor=batch.mine(self.donor),
            first=batch.first,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Corrupted:
    """Corrupted ``images`` (B, 3, S, S), and where they are ``alien``, ``noise`` or anything."""

    images: Tensor
    hidden: Tensor
    alien: Tensor
    noise: Tensor

    @property
    def ratio(self) -> Tensor:
        """Share of the area that is corrupted, a scalar to log."""
        return self.hidden.float().mean()


def sample_corruption(
    config: CorruptionConfig, n: int, image_px: int, patch_px: int, rng: torch.Generator
) -> CorruptionParams:
    """Draw how n square images are corrupted; ``rng`` lives on the CPU.

    The only image of a batch has no other to show: what would be alien is noise.
    """
    ratio = config.mask_ratio
    low = min(FIXED_SHARE, ratio)
    if config.mask_shape == "random":
        boxes = _every_patch(n, image_px, patch_px, rng)
    else:
        step = patch_px if config.mask_shape == "block" else 1
        boxes = _rectangles(n, _enough(ratio), image_px, step, rng)
    total = low + (ratio - low) * torch.rand(n, generator=rng)
    other = 1 + (torch.rand(n, generator=rng) * (n - 1)).long().clamp(max=max(n - 2, 0))
    alien = config.alien_share if n > 1 else 0.0
    return CorruptionParams(
        boxes=boxes,
        alien=alien * total,
        alien_or_noise=min(config.alien_share + config.noise_share, 1.0) * total,
        total=total,
        donor=(torch.arange(n) + other) % n,
        noise_seed=int(torch.randint(2**62, (), generator=rng)),
        n_whole=n,
    )


@torch.no_grad()
def corrupt(images: Tensor, params: CorruptionParams) -> Corrupted:
    """Return images (B, 3, S, S) corrupted as drawn; a share is passed by one box at the most."""
    first = first_box(params.boxes.to(images.device), images.shape[-1])
    shares = torch.stack([params.alien, params.alien_or_noise, params.total]).to(images.device)
    needed = boxes_needed(first, shares, params.boxes.shape[1])
    alien, either, hidden = (first < count[:, None, None] for count in needed)
    noise = either & ~alien
    out = images.masked_fill(hidden[:, None], 0.0)
    everyone, _ = gathered(images)
    if alien.any():
        out = torch.where(alien[:, None], everyone[params.donor.to(images.device)], out)
    if noise.any():
        # drawn where it is used: millions of numbers a step are too many to bring over
        stream = torch.Generator(images.device).manual_seed(params.noise_seed)
        size = (params.n_whole, *images.shape[1:])
        grain = torch.randn(size, generator=stream, device=images.device)
        grain = grain[params.first : params.first + len(images)]
        out = torch.where(noise[:, None], grain.to(images.dtype), out)
    return Corrupted(images=out, hidden=hidden, alien=alien, noise=noise)


def first_box(boxes: Tensor, image_px: int) -> Tensor:
    """Return for every pixel the number of the first of its image's K boxes on it, (B, S, S).

    int64; K where there is none.
    """
    places = torch.arange(image_px, device=boxes.device)
    top, left, height, width = (edge[..., None] for edge in boxes.unbind(-1))
    rows = ((places >= top) & (places < top + height)).float()
    columns = ((places >= left) & (places < left + width)).float()
    first = boxes.new_full((len(boxes), image_px, image_px), torch.inf, dtype=torch.float)
    for start in range(0, boxes.shape[1], CHUNK):
        # Box k paints 4^-k: the logarithm of the sum, rounded, tells the first one exactly, in
        # any floating-point format. One product of matrices paints a chunk of boxes on all images.
        part = slice(start, start + CHUNK)
        weight = 4.0 ** -torch.arange(rows[:, part].shape[1], device=boxes.device)
        paint = torch.bmm((rows[:, part] * weight[:, None]).mT, columns[:, part])
        first = torch.minimum(first, start - (paint.float().log2() / 2).round_())
    return first.clamp_(max=boxes.shape[1]).long()


def boxes_needed(first: Tensor, shares: Tensor, n_boxes: int) -> Tensor:
    """Return how many of the K boxes it takes to cover ``shares`` (J, B) of the pixels, (J, B)."""
    n, bins = len(first), n_boxes + 1
    own = first.flatten(1) + bins * torch.arange(n, device=first.device)[:, None]
    counts = own.flatten().bincount(minlength=n * bins).view(n, bins)
    reached = counts[:, :-1].cumsum(dim=1) / own.shape[1]
    needed = (reached < shares[..., None]).sum(dim=-1) + 1
    return needed.clamp(max=n_boxes) * (shares > 0)


def _every_patch(n: int, image_px: int, patch_px: int, rng: torch.Generator) -> Tensor:
    """Return all patches of the grid as boxes, in an order of its own for every image."""
    side = math.ceil(image_px / patch_px)
    order = torch.rand(n, side * side, generator=rng).argsort(dim=1)
    size = torch.full_like(order, patch_px)
    rows, columns = order.div(side, rounding_mode="floor"), order % side
    return torch.stack([rows * patch_px, columns * patch_px, size, size], dim=-1)


def _rectangles(n: int, k: int, image_px: int, step: int, rng: torch.Generator) -> Tensor:
    """Return k rectangles per image with edges at multiples of ``step``, centred inside it."""
    low, high = (share * image_px for share in SIDES)
    size, centre = torch.rand(2, n, k, 2, generator=rng)
    sides = ((low + (high - low) * size) / step).round().clamp(min=2 if step == 1 else 1)
    corner = (centre * image_px / step - sides / 2).round()
    return (torch.cat([corner, sides], dim=-1) * step).long()


def _enough(ratio: float) -> int:
    """Return a number of rectangles whose union all but surely covers ``ratio`` of an image.

    Each covers a share a of what is left, so n leave ``(1 - a)^n``; half as many again, and ten.
    """
    area = (sum(SIDES) / 2 * 0.85) ** 2  # .85: a part of them lies beyond the border
    return math.ceil(1.5 * math.log(1 - ratio) / math.log(1 - area)) + 10
