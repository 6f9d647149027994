"""Tiles: where they lie, what they hold, and what they no longer tell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from melssl.backbones import backbone_config
from melssl.backbones.base import Backbone
from melssl.frame import Frame
from melssl.methods.relative_position import (
    tile_grid,
)
from melssl.methods.tiles import TileGrid, cut, fitting_sides, levelled

VIT = {"family": "small_vit", "patch_px": 4, "embed_width": 16, "depth": 1, "heads": 2}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_cut_tile_holds_its_own_pixels_and_no_others() -> None:
    images = torch.randn(1, 3, 36, 36, generator=rng())
    corners = TileGrid(view=(36, 36), tile=(9, 9), pitch=(12, 12), slack_px=3).sample(1, rng())
    top, left = corners[0, 4].tolist()
    torch.testing.assert_close(
        cut(images, corners, (9, 9), (9, 9))[0, 4], images[0, :, top : top + 9, left : left + 9]
    )
    elsewhere = images.clone() + 100
    inside = (slice(None), slice(None), slice(top, top + 9), slice(left, left + 9))
    elsewhere[inside] = images[inside]
    enlarged = [cut(some, corners, (9, 9), (16, 16))[0, 4] for some in (images, elsewhere)]
    torch.testing.assert_close(*enlarged)


def test_levelled_tiles_tell_nothing_of_light_or_colour() -> None:
    tiles = torch.rand(2, 9, 3, 8, 8, generator=rng())
    lit = tiles * (0.5 + torch.rand(2, 9, 3, 1, 1, generator=rng(1))) + torch.rand(2, 9, 3, 1, 1)
    torch.testing.assert_close(levelled(lit, "unit"), levelled(tiles, "unit"))
    unit = levelled(lit, "unit")
    torch.testing.assert_close(unit.mean((3, 4)), torch.zeros(2, 9, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(unit.std((3, 4), correction=0), torch.ones(2, 9, 3))
    image = levelled(lit, "image")
    for number in (image.mean((3, 4)), image.std((3, 4), correction=0)):
        torch.testing.assert_close(number, number[:, :1].expand(-1, 9, -1))
    torch.testing.assert_close(image.mean((1, 3, 4)), lit.mean((1, 3, 4)))
    assert torch.equal(levelled(lit, "none"), lit)


def test_a_flat_tile_stays_flat() -> None:
    tiles = torch.full((1, 9, 3, 4, 4), 0.7)
    assert torch.equal(levelled(tiles, "unit"), torch.zeros(1, 9, 3, 4, 4))


@pytest.mark.parametrize(
    ("backbone", "image_px", "tile_px", "fits"),
    [
        ({"family": "small_cnn", "first_width": 8}, 32, 8, 16),
        ({"family": "small_cnn", "first_width": 8}, 48, 13, 16),
        ({"family": "small_cnn", "first_width": 8}, 96, 27, 32),
        ({"family": "small_cnn", "first_width": 8}, 50, 16, 16),  # 4 x 4 places of 16 px
        ({**VIT, "patch_px": 6}, 48, 13, 18),
        ({**VIT, "patch_px": 16}, 32, 8, 16),
    ],
)
def test_tiles_are_enlarged_to_the_next_size_that_fits_the_backbone(
    backbone: dict[str, object], image_px: int, tile_px: int, fits: int
) -> None:
    net = backbone_config(backbone).build(image_px)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert fitting_sides(net, Frame(image_px), (tile_px, tile_px)) == (fits, fits)
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_backbone_that_takes_one_size_gets_tiles_of_it() -> None:
    class OneSize(Backbone):
        def features(self, images: Tensor) -> list[Tensor]:
            if images.shape[-1] != 40:
                raise ValueError("40 px only")
            return [images[:, :, ::8, ::8]]

    assert fitting_sides(OneSize(), Frame(40), (11, 11)) == (40, 40)


@pytest.mark.parametrize("view_px", [16, 17, 32, 48, 50, 96, 225])
@pytest.mark.parametrize(("gap", "moved"), [(0.5, 7 / 96), (0, 0), (1, 0.5)])
def test_tiles_of_relative_position_never_leave_the_view_nor_overlap(
    view_px: int, gap: float, moved: float
) -> None:
    grid = tile_grid(view_px, gap, moved)
    corners = grid.sample(100, rng())
    assert corners.min() >= 0
    assert corners.max() + grid.tile[0] <= view_px
    if gap > moved:
        between = corners.view(-1, 3, 3, 2)[:, :, 1:, 1] - corners.view(-1, 3, 3, 2)[:, :, :-1, 1]
        assert between.min() >= grid.tile[0] - 1  # rounding to pixels


def test_at_the_papers_size_the_gap_is_half_a_tile_and_the_movement_7_px() -> None:
    grid = tile_grid(398, 48 / 96, 7 / 96)
    tile, pitch = grid.tile[0], grid.pitch[0]
    assert (tile, pitch - tile, grid.slack_px) == (96, 48, 14)
