"""Patches: back and forth in two and three dimensions, and as the kept libraries have them."""

import pytest
import torch
from lightly.models.utils import get_2d_sine_cosine_positional_embedding
from lightly.models.utils import patchify as of_lightly

from melssl.methods.patches import enlarged, patchify, pixels_of_places, sine_positions, unpatchify


def test_patches_of_an_image_are_those_of_lightly() -> None:
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(patchify(images, (4, 4)), of_lightly(images, 4))


@pytest.mark.parametrize(
    ("sides", "patch"), [((12, 8), (3, 4)), ((8, 12, 16), (4, 3, 2)), ((4, 4, 4), (4, 2, 1))]
)
def test_patches_laid_out_again_are_the_image(
    sides: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    images = torch.randn(2, 3, *sides)
    grid = tuple(side // p for side, p in zip(sides, patch, strict=True))
    patches = patchify(images, patch)
    assert torch.equal(unpatchify(patches, grid, patch), images)
    first = images[(slice(None), slice(None), *map(slice, patch))]
    assert torch.equal(patches[:, 0], first.movedim(1, -1).flatten(1))


@pytest.mark.parametrize("patch", [(2, 2), (2, 3), (2, 3, 4)])
def test_the_channels_of_a_place_become_its_pixels(patch: tuple[int, ...]) -> None:
    n_values = torch.tensor(patch).prod().item()
    features = torch.randn(1, 2 * n_values, *[2] * len(patch))
    pixels = pixels_of_places(features, patch)
    assert pixels.shape == (1, 2, *[2 * p for p in patch])
    for channel in range(2):
        own = pixels[(0, channel, *[slice(p, 2 * p) for p in patch])]  # of the last place
        last = features[(0, slice(channel * n_values, (channel + 1) * n_values), *[1] * len(patch))]
        assert torch.equal(own.flatten(), last)
    if patch == (2, 2):
        assert torch.equal(pixels, torch.nn.functional.pixel_shuffle(features, 2))


def test_units_are_enlarged_along_every_axis() -> None:
    units = torch.arange(8).view(1, 2, 2, 2)
    large = enlarged(units, (4, 2, 6))
    assert large.shape == (1, 4, 2, 6)
    assert torch.equal(large[0, ::2, :, ::3], units[0])
    assert torch.equal(large[0, 1::2, :, 2::3], units[0])


def test_positions_of_a_square_are_those_of_mae_and_all_places_of_a_box_differ() -> None:
    of_mae = torch.from_numpy(get_2d_sine_cosine_positional_embedding(64, 5, cls_token=False))
    assert torch.equal(sine_positions((5, 5), 64), of_mae.float())
    box = sine_positions((2, 3, 4), 64)
    assert box.shape == (24, 64)
    assert torch.cdist(box, box).add(torch.eye(24)).min() > 0.1
    assert not box[:, 60:].any()  # 64 is no multiple of six
