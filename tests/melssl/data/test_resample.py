"""Matrices of crop, resize, flip and blur against torchvision, and the law of the boxes."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from melssl.data.resample import (
    blur_matrix,
    blur_radius,
    central_box,
    crop_matrix,
    resample,
    sample_boxes,
)

BOXES = [(0, 0, 40, 40), (3, 5, 30, 21), (10, 0, 8, 40), (39, 39, 1, 1), (0, 20, 17, 5)]


def noise(n: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("size_px", [8, 16, 33, 64])
def test_crop_and_resize_equal_torchvision_for_shrinking_and_growing(size_px: int) -> None:
    images = noise(len(BOXES), 40, 40)
    top, left, height, width = torch.tensor(BOXES).unbind(1)
    off = torch.zeros(len(BOXES), dtype=torch.bool)
    got = resample(
        images,
        crop_matrix(top, height, off, size_px, 40),
        crop_matrix(left, width, off, size_px, 40),
    )
    for image, box, view in zip(images, BOXES, got, strict=True):
        expected = F.resized_crop(image, *box, [size_px, size_px], antialias=True)
        torch.testing.assert_close(view, expected, atol=1e-5, rtol=0)


def test_an_image_that_only_grows_equals_bilinear_without_antialias() -> None:
    image = noise(1, 20, 20)
    zero, full, off = torch.tensor([0]), torch.tensor([20]), torch.tensor([False])
    grow = crop_matrix(zero, full, off, 50, 20)
    expected = F.resize(image, [50, 50], antialias=False)
    torch.testing.assert_close(resample(image, grow, grow), expected, atol=1e-5, rtol=0)


def test_a_flipped_matrix_is_the_matrix_upside_down() -> None:
    start, length = torch.tensor([4]), torch.tensor([13])
    straight = crop_matrix(start, length, torch.tensor([False]), 24, 30)
    flipped = crop_matrix(start, length, torch.tensor([True]), 24, 30)
    torch.testing.assert_close(flipped, straight.flip(1), atol=1e-6, rtol=0)


def test_the_whole_image_at_its_own_size_is_the_identity_matrix() -> None:
    matrix = crop_matrix(torch.tensor([0]), torch.tensor([31]), torch.tensor([False]), 31, 31)
    assert torch.equal(matrix[0], torch.eye(31))


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.3, 6.0])
def test_blur_equals_torchvision_with_the_same_number_of_taps(sigma: float) -> None:
    image = noise(1, 24, 24)
    radius = blur_radius(sigma, 24)
    blur = blur_matrix(torch.tensor([sigma]), radius, 24)
    expected = F.gaussian_blur(image, [2 * radius + 1] * 2, [sigma] * 2)
    torch.testing.assert_close(resample(image, blur, blur), expected, atol=1e-5, rtol=0)


def test_a_blur_does_not_depend_on_the_others_of_its_batch() -> None:
    alone = blur_matrix(torch.tensor([0.7]), blur_radius(0.7, 32), 32)
    beside = blur_matrix(torch.tensor([0.7, 3.0]), blur_radius(3.0, 32), 32)
    torch.testing.assert_close(beside[:1], alone, atol=1e-7, rtol=0)


def test_blur_matrices_hold_no_denormal_number() -> None:
    blur = blur_matrix(torch.tensor([0.09, 0.11, 2.0]), 8, 32)
    assert not ((blur > 0) & (blur < 1e-30)).any()


def test_boxes_follow_torchvisions_law_of_random_resized_crop() -> None:
    scale, ratio, side, n = (0.08, 1.0), (3 / 4, 4 / 3), 64, 2000
    ours, fitted = sample_boxes(n, (side, side), scale, ratio, torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    crop, image = v2.RandomResizedCrop(side, scale, ratio), torch.zeros(3, side, side)
    keys = ("top", "left", "height", "width")
    drawn = [crop.make_params([image]) for _ in range(n)]
    theirs = torch.tensor([[params[key] for key in keys] for params in drawn])
    assert fitted.all()
    for law in (lambda b: b[:, 0], lambda b: b[:, 1], lambda b: b[:, 2] * b[:, 3], width_to_height):
        assert ks_2samp(law(ours), law(theirs)).pvalue > 1e-3


def width_to_height(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[:, 3] / boxes[:, 2]


def test_boxes_stay_inside_and_keep_to_their_area_and_ratio() -> None:
    rng = torch.Generator().manual_seed(3)
    boxes, fitted = sample_boxes(3000, (50, 80), (0.2, 0.6), (0.5, 2.0), rng)
    top, left, height, width = boxes[fitted].unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 50).all()
    assert (left + width <= 80).all()
    area = height * width / 4000
    assert 0.18 < area.min() < 0.22
    assert 0.58 < area.max() < 0.62
    assert (width / height).max() < 2.1
    assert (width / height).min() > 0.47
    assert (top + height == 50).any()  # the last place is reached
    assert (left == 0).any()


def test_boxes_that_cannot_fit_are_said_not_to() -> None:
    boxes, fitted = sample_boxes(5, (10, 100), (1, 1), (1, 1), torch.Generator().manual_seed(0))
    assert not fitted.any()
    assert not boxes.any()


@pytest.mark.parametrize(
    ("frame", "ratio", "box"),
    [
        ((30, 30), (1, 1), [0, 0, 30, 30]),
        ((30, 50), (1, 1), [0, 10, 30, 30]),
        ((50, 30), (1, 1), [10, 0, 30, 30]),
        ((50, 30), (0.5, 2), [0, 0, 50, 30]),
        ((20, 60), (0.5, 2), [0, 10, 20, 40]),
    ],
)
def test_the_central_box_is_the_largest_within_the_ratio(
    frame: tuple[int, int], ratio: tuple[float, float], box: list[int]
) -> None:
    assert central_box(frame, ratio).tolist() == box
