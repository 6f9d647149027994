"""In-painting, out-painting and local shuffling: volumes whose parts became noise or disorder.

What is changed is drawn first, on the CPU, as boxes; it is applied after, on the volumes' device.
Sides are (D, H, W) of volumes; nothing here depends on how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch
from pydantic import Field
from torch import Tensor

from melssl.data.views import Share, Shares
from melssl.methods.base import MethodConfig
from melssl.methods.masking import rectangles


class PaintingConfig(MethodConfig):
    """How much is painted and shuffled; sides are shares of the volume's.

    The defaults are those of MONAI's tutorial, whose numbers are voxels of 96: either in-painting
    (holes of 5..32 become noise) or out-painting (all but holes of 20..64 does), then the voxels
    within each of ten cubes of 8 are shuffled among themselves, in four of five views.
    """

    holes: int = Field(6, ge=1, le=32)
    in_sides: Shares = Field((5 / 96, 32 / 96), description="of what becomes noise, by axis")
    out_share: float = Field(0.5, ge=0, le=1, description="probability of out-painting instead")
    out_sides: Shares = Field((20 / 96, 64 / 96), description="of what stays, by axis")
    shuffle: float = Field(0.8, ge=0, le=1, description="probability that voxels are shuffled")
    spots: int = Field(10, ge=1, le=64, description="cubes whose voxels are shuffled")
    spot_side: Share = Field(8 / 96, description="of such a cube; two voxels or more")


@dataclass(frozen=True, kw_only=True, eq=False)
class PaintingParams:
    """What was drawn for B views, on the CPU; ``params.take(rows)`` cuts rows out.

    ``boxes`` (B, K, 2 n) int64 are the holes, first their corners and then their lengths along n
    axes; with ``outer`` (B,) all but they becomes noise of ``noise_seed``. In those that are
    ``shuffled`` (B,), place i of the cube at ``spots`` (B, J, n) gets the voxel at place
    ``orders`` (B, J, i) of it, one cube after another. ``rows`` (B,) of ``n_whole`` are these.
    """

    boxes: Tensor
    outer: Tensor
    shuffled: Tensor
    spots: Tensor
    orders: Tensor
    spot_px: tuple[int, ...]
    noise_seed: int
    rows: Tensor
    n_whole: int

    def take(self, rows: Tensor) -> PaintingParams:
        """Return the parameters of some views; the noise stays that of the whole batch."""
        names = ("boxes", "outer", "shuffled", "spots", "orders", "rows")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True, kw_only=True, eq=False)
class Painted:
    """Painted ``images`` (B, C, *sides), and where they are noise, ``hidden`` (B, *sides)."""

    images: Tensor
    hidden: Tensor


def sample_painting(
    config: PaintingConfig, n: int, sides: tuple[int, ...], rng: torch.Generator
) -> PaintingParams:
    """Draw how n volumes of ``sides`` are painted and shuffled; ``rng`` lives on the CPU."""
    whole = torch.tensor(sides)
    outer = torch.rand(n, generator=rng) < config.out_share
    low, high = (
        torch.where(outer[:, None, None], _lengths(config.out_sides[end], whole), inner)
        for end, inner in enumerate(_lengths(share, whole) for share in config.in_sides)
    )
    size, place = torch.rand(2, n, config.holes, len(sides), generator=rng)
    lengths = low + (size * (high - low + 1)).long()
    shuffled = torch.rand(n, generator=rng) < config.shuffle
    spot = _lengths(config.spot_side, whole).clamp(min=2).minimum(whole)
    where = torch.rand(n, config.spots, len(sides), generator=rng)
    return PaintingParams(
        boxes=torch.cat([(place * (whole - lengths + 1)).long(), lengths], dim=-1),
        outer=outer,
        shuffled=shuffled,
        spots=(where * (whole - spot + 1)).long(),
        orders=torch.rand(n, config.spots, prod(spot.tolist()), generator=rng).argsort(dim=-1),
        spot_px=tuple(spot.tolist()),
        noise_seed=int(torch.randint(2**62, (), generator=rng)),
        rows=torch.arange(n),
        n_whole=n,
    )


@torch.no_grad()
def paint(images: Tensor, params: PaintingParams) -> Painted:
    """Return volumes (B, C, *sides) painted and then shuffled as drawn.

    The noise is uniform between the least and the largest value of each volume.
    """
    device, sides = images.device, images.shape[2:]
    hidden = holes(params.boxes.to(device), sides) ^ _wide(params.outer.to(device), len(sides))
    axes = tuple(range(1, images.ndim))
    low, high = images.amin(dim=axes, keepdim=True), images.amax(dim=axes, keepdim=True)
    # drawn where it is used: millions of numbers a step are too many to bring over
    stream = torch.Generator(device).manual_seed(params.noise_seed)
    grain = torch.rand((params.n_whole, *images.shape[1:]), generator=stream, device=device)
    noise = low + (high - low) * grain[params.rows.to(device)].to(images.dtype)
    painted = torch.where(hidden[:, None], noise, images)
    return Painted(images=_shuffled(painted, params), hidden=hidden)


def holes(boxes: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Return the masks (B, *sides) of all places in any of an image's boxes (B, K, 2 n)."""
    mask = boxes.new_zeros((len(boxes), *sides), dtype=torch.bool)
    for box in boxes.unbind(1):
        mask |= rectangles(box, sides).view(mask.shape)
    return mask


def _shuffled(images: Tensor, params: PaintingParams) -> Tensor:
    """Permute the voxels within each spot, spot after spot; channels keep together."""
    sides, device = images.shape[2:], images.device
    steps = torch.tensor([prod(sides[axis + 1 :]) for axis in range(len(sides))])
    within = torch.cartesian_prod(*[torch.arange(side) for side in params.spot_px])
    inside = (within * steps).sum(dim=-1)
    corners = (params.spots * steps).sum(dim=-1)
    flat = images.flatten(2)
    chosen = _wide(params.shuffled.to(device), 2)
    for spot in range(corners.shape[1]):
        place = corners[:, spot, None] + inside
        source = place.gather(1, params.orders[:, spot])
        place, source = (
            index.to(device)[:, None].expand(-1, images.shape[1], -1) for index in (place, source)
        )
        moved = torch.where(chosen, flat.gather(2, source), flat.gather(2, place))
        flat = flat.scatter(2, place, moved)
    return flat.view(images.shape)


def _lengths(share: float, whole: Tensor) -> Tensor:
    """Return so large a share of each side, in whole places, (n,)."""
    return (share * whole).round().long().clamp(min=1)


def _wide(flags: Tensor, n_axes: int) -> Tensor:
    """Return flags (B,) as (B, 1, ..., 1) with ``n_axes`` ones."""
    return flags.view(-1, *[1] * n_axes)
