"""Views: the law of the draws, and the whole chain against torchvision, view by view."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from melssl.data.resample import blur_radius
from melssl.data.views import VIEW_PRESETS, ViewParams, ViewRecipe, apply_view
from melssl.errors import SpecError
from melssl.seeding import Seed

EVERYTHING = VIEW_PRESETS["imagenet"].replace(
    vertical_flip=0.5, quarter_turns=True, solarise=0.3, erase=0.4, blur_sigma=(2, 9)
)
RECIPES = {**VIEW_PRESETS, "everything": EVERYTHING}


def rng(name: str = "views") -> torch.Generator:
    return Seed(0).child(name).torch()


def photographs(n: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (n, 3, height, width), generator=rng(), dtype=torch.uint8)


def torchvision_view(image: Tensor, params: ViewParams, row: int) -> Tensor:
    """One view by torchvision's own functions, in the order that apply_view documents."""
    side = params.size_px
    p = {f.name: getattr(params, f.name) for f in fields(params)}
    p = {name: v[row].tolist() if isinstance(v, Tensor) else v for name, v in p.items()}
    x = F.to_dtype(image, torch.float32, scale=True)
    x = F.resized_crop(x, *p["crop"], size=[side, side], antialias=True)
    x = F.horizontal_flip(x) if p["horizontal_flip"] else x
    x = F.vertical_flip(x) if p["vertical_flip"] else x
    if p["blur_sigma_px"]:
        taps = 2 * blur_radius(p["blur_sigma_px"], side) + 1
        x = F.gaussian_blur(x, [taps, taps], [p["blur_sigma_px"]] * 2)
    x = torch.rot90(x, p["quarter_turns"], (1, 2))
    x = F.adjust_brightness(x, p["brightness"])
    x = F.adjust_contrast(x, p["contrast"])
    x = F.adjust_saturation(x, p["saturation"])
    x = F.adjust_hue(x, p["hue"])
    x = F.rgb_to_grayscale(x, 3) if p["grayscale"] else x
    x = F.solarize(x, p["solarise_threshold"]) if p["solarise"] else x
    x = F.normalize(x, list(p["mean"]), list(p["std"]))
    top, left, height, width = p["erase"]
    return F.erase(x, top, left, height, width, torch.zeros(3, 1, 1)) if height else x


@pytest.mark.parametrize(
    ("source", "size_px"), [((32, 32), 24), ((24, 30), 40)], ids=["shrinking", "growing"]
)
@pytest.mark.parametrize("name", RECIPES)
def test_views_equal_torchvisions_functions_for_the_same_parameters(
    name: str, source: tuple[int, int], size_px: int
) -> None:
    images = photographs(24, *source)
    # 0.5 is a level that solarise would meet by chance of rounding on one side only
    recipe = RECIPES[name].replace(solarise_threshold=0.6543)
    params = recipe.sample(len(images), source, rng(), size_px)
    got = apply_view(images, params)
    expected = torch.stack([torchvision_view(image, params, i) for i, image in enumerate(images)])
    # one standard deviation is about 0.225 of the pixel range: 5e-5 here is 1e-5 there
    torch.testing.assert_close(got, expected, atol=5e-5, rtol=0)


def test_everything_in_the_chain_is_at_work_in_the_test_above() -> None:
    params = EVERYTHING.sample(24, 32, rng(), 24)
    for drawn in (params.horizontal_flip, params.grayscale, params.solarise, params.hue != 0):
        assert 0 < drawn.sum() < 24
    assert params.quarter_turns.unique().tolist() == [0, 1, 2, 3]
    assert 0 < (params.erase[:, 2] > 0).sum() < 24
    assert 0 < (params.blur_sigma_px > 0).sum() < 24


def test_the_recipe_none_only_normalises_an_image_of_its_own_size() -> None:
    images = photographs(3, 32, 32)
    recipe = VIEW_PRESETS["none"]
    expected = F.normalize(images.float() / 255, list(recipe.mean), list(recipe.std))
    as_floats = apply_view(images.float() / 255, recipe.sample(3, 32, rng()))
    assert torch.equal(as_floats, expected)
    as_bytes = apply_view(images, recipe.sample(3, 32, rng()))
    torch.testing.assert_close(as_bytes, expected, atol=1e-6, rtol=0)


def test_memory_layout_and_cutting_the_batch_change_nothing() -> None:
    images = photographs(70, 64, 64)
    params = EVERYTHING.sample(70, 64, rng(), 64)
    whole = apply_view(images, params)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(apply_view(last, params), whole)
    parts = [apply_view(images[s], params[s]) for s in (slice(0, 33), slice(33, 70))]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_rows_of_the_parameters_can_be_cut_out_by_slice_and_by_number() -> None:
    params = EVERYTHING.sample(9, 32, rng())
    some, picked = params[2:5], params[torch.tensor([2, 3, 4])]
    assert len(some) == len(picked) == 3
    for f in fields(params):
        whole, part = getattr(params, f.name), getattr(some, f.name)
        if isinstance(whole, Tensor):
            assert torch.equal(part, whole[2:5])
            assert torch.equal(part, getattr(picked, f.name))
        else:
            assert part == whole


def test_one_state_of_the_generator_gives_one_draw() -> None:
    once, again = (EVERYTHING.sample(50, 32, rng()) for _ in range(2))
    other = EVERYTHING.sample(50, 32, rng("other"))
    assert torch.equal(once.crop, again.crop)
    assert torch.equal(once.hue, again.hue)
    assert not torch.equal(once.crop, other.crop)


def test_two_recipes_that_differ_in_one_strength_share_the_other_draws() -> None:
    one = EVERYTHING.sample(50, 32, rng())
    two = EVERYTHING.replace(blur=0.0, contrast=0.1).sample(50, 32, rng())
    assert torch.equal(one.crop, two.crop)
    assert torch.equal(one.hue, two.hue)
    assert torch.equal(one.erase, two.erase)
    assert not torch.equal(one.contrast, two.contrast)


def test_views_of_one_image_differ_within_a_batch() -> None:
    image = photographs(1, 32, 32).expand(8, -1, -1, -1)
    views = apply_view(image, VIEW_PRESETS["medical"].sample(8, 32, rng()))
    assert len({view.numpy().tobytes() for view in views}) == 8


def test_draws_hit_their_probabilities_and_stay_in_their_ranges() -> None:
    n = 20_000
    recipe = EVERYTHING.replace(horizontal_flip=0.3, grayscale=0.1, brightness=0.4, hue=0.1)
    params = recipe.sample(n, 32, rng(), 112)
    margin = 4 * 0.5 / n**0.5  # four standard errors at most
    for drawn, probability in (
        (params.horizontal_flip, 0.3),
        (params.vertical_flip, 0.5),
        (params.blur_sigma_px > 0, 0.5),
        (params.brightness != 1, 0.8),
        (params.hue != 0, 0.8),
        (params.grayscale, 0.1),
        (params.solarise, 0.3),
        (params.erase[:, 2] > 0, 0.4),
    ):
        assert abs(drawn.double().mean() - probability) < margin
    assert ((params.quarter_turns.bincount(minlength=4) / n - 0.25).abs() < margin).all()
    assert params.brightness.min() >= 0.6
    assert params.brightness.max() <= 1.4
    assert params.hue.abs().max() <= 0.1
    blurred = params.blur_sigma_px[params.blur_sigma_px > 0]
    assert blurred.min() >= 1  # 2 at 224 pixels is half of it at 112
    assert blurred.max() <= 4.5


def test_the_size_comes_from_the_recipe_then_from_the_study_then_from_the_image() -> None:
    assert ViewRecipe(size_px=16).sample(1, 32, rng(), 24).size_px == 16
    assert ViewRecipe().sample(1, 32, rng(), 24).size_px == 24
    assert ViewRecipe().sample(1, (40, 32), rng()).size_px == 32


@pytest.mark.parametrize(
    "fault",
    [
        {"blur": 1.5},
        {"crop_scale": (0.5, 0.2)},
        {"crop_scale": (0.0, 1.0)},
        {"crop_ratio": (-1.0, 1.0)},
        {"hue": 0.6},
        {"std": (0.0, 1.0, 1.0)},
        {"size_px": 0},
        {"brightness": -0.1},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_a_setting_out_of_range_is_refused(fault: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=next(iter(fault))):
        ViewRecipe().replace(**fault)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in ViewRecipe.model_fields.values())


def test_a_preset_survives_the_way_through_plain_data() -> None:
    for recipe in VIEW_PRESETS.values():
        assert ViewRecipe.parse(recipe.plain()) == recipe


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 3, 16, 16), torch.zeros(3, 3, 16, 24), torch.zeros(3, 3, 16, 16).long()],
    ids=["count", "size", "dtype"],
)
def test_images_that_the_parameters_were_not_drawn_for_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match="expected uint8 or float images"):
        apply_view(images, ViewRecipe().sample(3, 16, rng()))
