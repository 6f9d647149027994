"""Colour changes against torchvision's, image by image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from melssl.data import colour

FACTORS = [0.0, 0.3, 0.95, 1.0, 1.2, 1.8]
HUES = [-0.5, -0.31, -0.04, 0.0, 0.17, 0.5]


@pytest.fixture
def images() -> Tensor:
    """Noise, and what breaks HSV: black, white, grey, two equal channels, few levels."""
    images = torch.rand(6, 3, 20, 24, generator=torch.Generator().manual_seed(5))
    images[1, :, :5], images[1, :, 5:10], images[1, :, 10:] = 0.0, 1.0, images[1, :1, 10:]
    images[2, 1] = images[2, 0]
    images[3] = (images[3] * 3).round() / 3
    images[4] *= 1e-3
    return images


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (colour.adjust_contrast_, F.adjust_contrast, FACTORS),
        (colour.adjust_saturation, F.adjust_saturation, FACTORS),
        (colour.adjust_hue, F.adjust_hue, HUES),
    ],
    ids=["contrast", "saturation", "hue"],
)
def test_a_change_equals_torchvisions_for_one_factor_per_image(
    images: Tensor,
    ours: Callable[[Tensor, Tensor], Tensor],
    theirs: Callable[[Tensor, float], Tensor],
    values: list[float],
) -> None:
    expected = torch.stack([theirs(i, v) for i, v in zip(images, values, strict=True)])
    got = ours(images.clone(), torch.tensor(values))
    torch.testing.assert_close(got, expected, atol=5e-6, rtol=0)


def test_grayscale_equals_torchvisions(images: Tensor) -> None:
    torch.testing.assert_close(
        colour.grayscale(images), F.rgb_to_grayscale(images, 3), atol=1e-6, rtol=0
    )


def test_solarise_equals_torchvisions(images: Tensor) -> None:
    assert torch.equal(colour.solarise(images, 1 / 3), F.solarize(images, 1 / 3))


def test_a_neutral_factor_leaves_every_bit_alone(images: Tensor) -> None:
    ones = torch.ones(len(images))
    assert torch.equal(colour.adjust_contrast_(images.clone(), ones), images)
    assert torch.equal(colour.adjust_saturation(images, ones), images)
