"""sRGB and Lab against published values and each other."""

from __future__ import annotations

import pytest
import torch

from melssl.data.lab import lab_to_srgb, srgb_to_lab

# L*a*b* (D65) of sRGB corners and greys as colour calculators print them, to two digits or more.
PUBLISHED = {
    (1, 1, 1): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (1, 0, 0): (53.2408, 80.0925, 67.2032),
    (0, 1, 0): (87.7347, -86.1827, 83.1793),
    (0, 0, 1): (32.2970, 79.1875, -107.8602),
    (1, 1, 0): (97.1393, -21.5537, 94.4780),
    (0, 1, 1): (91.1132, -48.0875, -14.1312),
    (1, 0, 1): (60.3242, 98.2343, -60.8249),
    (0.5, 0.5, 0.5): (53.3890, 0.0, 0.0),
}


@pytest.mark.parametrize(("rgb", "lab"), PUBLISHED.items(), ids=str)
def test_lab_has_the_published_values(
    rgb: tuple[float, ...], lab: tuple[float, float, float]
) -> None:
    pixel = torch.tensor(rgb, dtype=torch.float64).view(3, 1, 1)
    expected = torch.tensor(lab, dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(srgb_to_lab(pixel), expected, atol=0.01, rtol=0)


def test_lab_and_back_is_the_same_image() -> None:
    images = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    images[1] *= 0.02  # the straight parts of both curves
    torch.testing.assert_close(lab_to_srgb(srgb_to_lab(images)), images, atol=1e-5, rtol=0)


def test_colours_that_no_screen_shows_are_cut_to_the_range() -> None:
    wild = torch.tensor([50.0, 110.0, -110.0]).view(1, 3, 1, 1)
    shown = lab_to_srgb(wild)
    assert torch.isfinite(shown).all()
    assert shown.min() >= 0
    assert shown.max() <= 1
