"""MAE, SimMIM, iBOT and I-JEPA: formulas by loops, what must not be seen, who may move."""

import math

import pytest
import torch
from lightly.loss import IBOTPatchLoss
from torch import Tensor

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS
from melssl.errors import BackboneError
from melssl.methods.base import Batch, Method, PoolFacts
from melssl.methods.distillation import cross_entropy
from melssl.methods.ibot import IBot, per_view
from melssl.methods.ijepa import IJepa, IJepaConfig, draw_blocks
from melssl.methods.mae import Mae, MaeConfig
from melssl.methods.masking import masks_of_ratio, places
from melssl.methods.patches import enlarged
from melssl.methods.simmim import FLAT, SimMim, SimMimConfig, divisor
from melssl.training.trainable import Progress

VIT = {"family": "small_vit", "patch_px": 4, "embed_width": 32, "depth": 1, "heads": 2}
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
FACTS = PoolFacts(n_samples=32, n_patients=4, image_px=16)
DEEP = PoolFacts(n_samples=32, n_patients=4, image_px=12, depth=8, channels=2)


def rng(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(
    method: type[Method],
    net: dict[str, object] = VIT,
    facts: PoolFacts = FACTS,
    **settings: object,
) -> Method:
    torch.manual_seed(0)
    config = method.Config.parse(settings)
    return method(config, backbone_config(net).build(facts.frame), facts)


def batch(*views: Tensor) -> Batch:
    place = torch.arange(len(views[0]))
    return Batch(views=views, place=place, patient=place, rng=rng())


# MAE


def test_the_target_of_mae_is_each_patch_at_mean_0_and_variance_1() -> None:
    method = build(Mae)
    images = torch.randn(2, 3, 16, 16)
    target = method.target(images)
    assert target.shape == (2, 16, 48)
    patch = images[1, :, 4:8, 8:12].permute(1, 2, 0).reshape(-1)  # row 1, column 2: place 6
    expected = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
    torch.testing.assert_close(target[1, 6], expected)


@pytest.mark.parametrize("shape", ["random", "block", "group"])
def test_the_loss_of_mae_is_the_error_of_the_hidden_patches_only(shape: str) -> None:
    method = build(Mae, mask_ratio=0.5, mask_shape=shape)
    images = torch.randn(2, 3, 16, 16)
    loss = method.step(batch(images)).loss
    mask = masks_of_ratio(shape, 2, (4, 4), 0.5, rng())
    with torch.no_grad():
        encoded = method.backbone.encode_tokens(images, places(~mask))
        prediction = method.predict(method._decode(encoded, places(~mask)))
    target = method.target(images)
    errors = [
        (prediction[b, place] - target[b, place]).square().mean()
        for b in range(2)
        for place in places(mask)[b]
    ]
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_what_mae_hides_does_not_reach_the_encoder() -> None:
    method = build(Mae).eval()
    mask = masks_of_ratio("random", 1, (4, 4), 0.5, rng())
    images = torch.randn(1, 3, 16, 16)
    changed = torch.where(enlarged(mask.view(1, 4, 4), (16, 16))[:, None], 9.0, images)
    before = method.backbone.encode_tokens(images, places(~mask))
    torch.testing.assert_close(method.backbone.encode_tokens(changed, places(~mask)), before)


def test_a_full_set_of_kept_tokens_gives_what_no_masking_gives() -> None:
    backbone = backbone_config(VIT).build(16).eval()
    images = torch.randn(2, 3, 16, 16)
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(
        backbone.encode_tokens(images, everything), backbone.encode_tokens(images)
    )


def test_a_shape_that_came_later_is_in_the_key_only_where_it_is_another() -> None:
    assert "mask_shape" not in MaeConfig().keyed()
    assert MaeConfig(mask_shape="block").keyed()["mask_shape"] == "block"


@pytest.mark.parametrize("shape", ["random", "block", "group"])
def test_of_a_volume_mae_predicts_the_hidden_boxes_only(shape: str) -> None:
    method = build(Mae, {**VIT, "patch_depth": 2}, DEEP, mask_ratio=0.5, mask_shape=shape)
    volumes = torch.randn(2, *DEEP.frame.shape)
    assert method.backbone.grid == (4, 3, 3)
    loss = method.step(batch(volumes)).loss
    mask = masks_of_ratio(shape, 2, (4, 3, 3), 0.5, rng())
    with torch.no_grad():
        encoded = method.backbone.encode_tokens(volumes, places(~mask))
        prediction = method.predict(method._decode(encoded, places(~mask)))
    errors = []
    for b in range(2):
        for place in places(mask)[b].tolist():
            d, h, w = place // 9, place // 3 % 3, place % 3
            box = volumes[b, :, 2 * d : 2 * d + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4]
            patch = box.permute(1, 2, 3, 0).reshape(-1)
            aim = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            errors.append((prediction[b, place] - aim).square().mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_what_mae_makes_of_a_volume_is_the_volume_where_it_was_shown() -> None:
    method = build(Mae, {**VIT, "patch_depth": 2}, DEEP).eval()
    volumes = torch.randn(2, *DEEP.frame.shape)
    made = method.reconstruct(batch(volumes))
    seen = ~made.shown.isnan()
    assert 0.2 < seen.float().mean() < 0.3
    assert torch.equal(made.shown[seen], volumes[seen])
    assert torch.equal(made.painted[seen], volumes[seen])


# SimMIM


@pytest.mark.parametrize("net", [{**VIT, "patch_depth": 2}, CNN], ids=["vit", "cnn"])
def test_of_a_volume_simmim_predicts_the_hidden_voxels_only(net: dict[str, object]) -> None:
    method = build(SimMim, net, DEEP, mask_units=3)
    volumes = torch.randn(2, *DEEP.frame.shape)
    loss = method.step(batch(volumes)).loss
    units = masks_of_ratio("random", 2, method.units, 0.6, rng()).view(2, *method.units)
    with torch.no_grad():
        maps = method.predict(method.encode(volumes, units)).double()
    target, cell = method.target(volumes), method.cell
    size = [side // n for side, n in zip(DEEP.frame.sides, method.units, strict=True)]
    errors = []
    for b, c, d, h, w in torch.cartesian_prod(*map(torch.arange, volumes.shape)).tolist():
        if units[b, d // size[0], h // size[1], w // size[2]]:
            within = (d % cell[0] * cell[1] + h % cell[1]) * cell[2] + w % cell[2]
            said = maps[b, c * math.prod(cell) + within, d // cell[0], h // cell[1], w // cell[2]]
            errors.append(abs(float(said - target[b, c, d, h, w])))
    assert loss.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


@pytest.mark.parametrize("net", [VIT, CNN], ids=["vit", "cnn"])
def test_the_loss_of_simmim_is_the_absolute_error_of_the_hidden_pixels(
    net: dict[str, object],
) -> None:
    method = build(SimMim, net, mask_units=4)
    images = torch.randn(2, 3, 16, 16)
    loss = method.step(batch(images)).loss
    target = method.target(images)
    units = masks_of_ratio("random", 2, (4, 4), 0.6, rng()).view(2, 4, 4)
    with torch.no_grad():
        maps = method.predict(method.encode(images, units)).double()
    errors = [
        abs(float(maps[b, 16 * c + 4 * (y % 4) + x % 4, y // 4, x // 4] - target[b, c, y, x]))
        for b in range(2)
        for c in range(3)
        for y in range(16)
        for x in range(16)
        if units[b, y // 4, x // 4]
    ]
    assert loss.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_the_target_of_simmim_is_each_unit_at_mean_0_and_variance_1_or_the_pixels() -> None:
    images = torch.randn(2, 3, 16, 16)
    images[0, 0] = 0.7
    method = build(SimMim, CNN, mask_units=4)
    target = method.target(images)
    unit = images[1, 2, 4:8, 8:12]
    expected = (unit - unit.mean()) / (unit.var() + FLAT).sqrt()
    torch.testing.assert_close(target[1, 2, 4:8, 8:12], expected)
    assert target[0, 0].abs().max() < 1e-5  # of one colour: nothing to predict, and no noise
    light = 0.8 * torch.rand(2, 3, 1, 1) + torch.ones(2, 3, 1, 1)
    torch.testing.assert_close(method.target(light + images), target, atol=1e-4, rtol=0)
    assert torch.equal(build(SimMim, CNN, normalise_target=False).target(images), images)


@pytest.mark.parametrize("net", [VIT, CNN], ids=["vit", "cnn"])
def test_what_simmim_hides_does_not_reach_the_encoder(net: dict[str, object]) -> None:
    method = build(SimMim, net).eval()
    units = masks_of_ratio("block", 2, method.units, 0.6, rng()).view(2, *method.units)
    images = torch.randn(2, 3, 16, 16)
    hidden = enlarged(units, (16, 16))[:, None]
    before = method.encode(images, units)
    changed = torch.where(hidden, torch.randn(2, 3, 16, 16), images)
    torch.testing.assert_close(method.encode(changed, units), before)
    seen = torch.where(hidden, images, torch.randn(2, 3, 16, 16))
    assert not torch.allclose(method.encode(seen, units), before)


@pytest.mark.parametrize(
    ("model", "image_px", "units", "cell_px"),
    [("resnet10t", 48, 8, 16), ("tiny_vit_5m_224", 64, 8, 32), ("vit_tiny_patch16_224", 96, 6, 16)],
)
def test_simmim_serves_nets_of_every_kind(
    model: str, image_px: int, units: int, cell_px: int
) -> None:
    facts = PoolFacts(n_samples=8, n_patients=4, image_px=image_px)
    method = SimMim(SimMimConfig(), backbone_config(model).build(image_px), facts)
    assert (method.units, method.cell) == ((units, units), (cell_px, cell_px))
    loss = method.step(batch(torch.randn(2, 3, image_px, image_px))).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert method.mask_token.grad.any()
    assert next(method.backbone.parameters()).grad is not None


def test_a_map_that_covers_more_than_the_image_is_cut_to_it() -> None:
    facts = PoolFacts(n_samples=8, n_patients=4, image_px=18)  # 18 px become 9, then 5 cells of 4
    method = SimMim(SimMimConfig(), backbone_config(CNN).build(18), facts)
    assert method.cell == (4, 4)
    assert torch.isfinite(method.step(batch(torch.randn(2, 3, 18, 18))).loss)


@pytest.mark.parametrize(
    ("side", "wanted", "units"),
    [(96, 8, 8), (14, 8, 7), (6, 8, 6), (224, 6, 7), (9, 6, 3), (7, 2, 7)],
)
def test_units_are_the_nearest_number_that_divides_the_side(
    side: int, wanted: int, units: int
) -> None:
    assert divisor(side, wanted) == units


# iBOT


def entropy(teacher: Tensor, student: Tensor, t_teacher: float, t_student: float) -> float:
    """Caron et al. 2021, equation 1, for one row of scores."""
    aim = [math.exp(float(v) / t_teacher) for v in teacher.double()]
    said = [math.exp(float(v) / t_student) for v in student.double()]
    pairs = zip(aim, said, strict=True)
    return -sum(a / sum(aim) * math.log(s / sum(said)) for a, s in pairs)


def test_the_loss_of_ibot_is_that_of_images_across_views_and_patches_within_one() -> None:
    method = build(IBot, small_views=1, prototypes=5, patch_weight=0.5)
    method.eval()  # so that batch norm treats rows alone as it treats them together
    method.image_centre.value.normal_(std=0.1, generator=rng(1))
    method.patch_centre.value.normal_(std=0.1, generator=rng(2))
    method.image_centre.steps += 1
    method.patch_centre.steps += 1
    views = (*torch.randn(2, 3, 3, 16, 16), torch.randn(3, 3, 8, 8))
    result = method.step(batch(*views))
    mask = method.masks(6, rng()).view(2, 3, 16)
    assert 0 < mask.any(dim=-1).sum() < 6
    student, teacher = [], []
    with torch.no_grad():
        for v, view in enumerate(views[:2]):
            tokens = method.backbone.encode_tokens(
                view, hidden=mask[v], mask_token=method.mask_token
            )
            student.append(method.head(tokens))
            teacher.append(method.teacher_head(method.teacher.net.encode_tokens(view)))
        student.append(method.head(method.backbone.encode_tokens(views[2])))
    images = [
        entropy(teacher[g][b, 0] - method.image_centre.value, student[v][b, 0], 0.04, 0.1)
        for g in range(2)
        for v in range(3)
        for b in range(3)
        if v != g
    ]
    patches = 0.0
    for v in range(2):
        for b in range(3):
            hidden = [i for i in range(16) if mask[v, b, i]]
            for i in hidden:
                aim = teacher[v][b, 1 + i] - method.patch_centre.value
                patches += entropy(aim, student[v][b, 1 + i], 0.04, 0.1) / len(hidden) / 6
    expected = sum(images) / len(images) + 0.5 * patches
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)
    assert result.parts["patch_loss"].item() == pytest.approx(patches, rel=1e-5)


def test_the_patch_loss_of_ibot_is_that_of_lightly() -> None:
    mask = build(IBot).masks(6, rng())
    teacher, student = torch.randn(2, int(mask.sum()), 5, generator=rng())
    golden = IBOTPatchLoss(output_dim=5, teacher_temp=0.04, student_temp=0.1)
    values = cross_entropy(teacher, student, teacher_temperature=0.04, student_temperature=0.1)
    expected = golden(teacher, student, mask.view(6, 4, 4))
    torch.testing.assert_close(per_view(values, mask), expected)


def test_half_of_the_views_of_ibot_are_whole_and_the_others_have_ratios_of_their_own() -> None:
    shares = build(IBot).masks(400, rng()).float().mean(dim=1)
    assert 0.4 < float((shares == 0).float().mean()) < 0.6
    assert shares[shares > 0].min() == 2 / 16  # .1 of 16 patches, rounded
    assert shares.max() == 8 / 16


def test_a_batch_in_which_nothing_is_hidden_has_no_patch_loss_and_no_nan() -> None:
    method = build(IBot)
    assert per_view(torch.zeros(0), torch.zeros(4, 16, dtype=torch.bool)).item() == 0
    method.masks = lambda n, _: torch.zeros(n, 16, dtype=torch.bool)
    result = method.step(batch(*torch.randn(2, 2, 3, 16, 16)))
    result.loss.backward()
    method.after_step(Progress(step=1, total_steps=4))
    assert result.parts["patch_loss"] == 0
    assert torch.isfinite(result.loss)
    assert not method.patch_centre.value.any()


def test_the_teacher_of_ibot_moves_by_its_momentum_and_its_prototypes_rest_at_first() -> None:
    method = build(IBot, momentum=0.8, frozen_epochs=1)
    method.before_step(Progress(step=0, total_steps=10, per_epoch=2))
    assert method.head.frozen
    assert method.teacher_temperature == method.config.warmup_temperature
    method.before_step(Progress(step=2, total_steps=10, per_epoch=2))
    assert not method.head.frozen
    with torch.no_grad():
        for weight in (*method.backbone.parameters(), *method.head.parameters()):
            weight += 1
    method.after_step(Progress(step=5, total_steps=10))  # half of the way from .8 to 1
    for twin, online in ((method.teacher, method.backbone), (method.teacher_head, method.head)):
        for own, theirs in zip(twin.parameters(), online.parameters(), strict=True):
            torch.testing.assert_close(own, theirs - 0.9)


# I-JEPA


def test_the_loss_of_i_jepa_is_smooth_l1_to_normalised_features_of_the_targets() -> None:
    method = build(IJepa, n_targets=3)
    with torch.no_grad():
        for weight in method.teacher.parameters():
            weight += 0.05
    images = torch.randn(2, 3, 16, 16)
    loss = method.step(batch(images)).loss
    blocks = draw_blocks(method.config, 2, (4, 4), rng())
    with torch.no_grad():
        seen = method.backbone.encode_tokens(images, blocks.context)[:, 1:]
        features = method.teacher.net.encode_tokens(images)[:, 1:].double()
    errors = []
    for b in range(2):
        for target in blocks.targets[b]:
            with torch.no_grad():
                row = slice(b, b + 1)
                predicted = method.predictor(seen[row], blocks.context[row], target[None])[0]
            for said, place in zip(predicted.double(), target.tolist(), strict=True):
                f = features[b, place]
                aim = (f - f.mean()) / (f.var(unbiased=False) + 1e-5).sqrt()
                for gap in (said - aim).abs().tolist():
                    errors.append(0.5 * gap**2 if gap < 1 else gap - 0.5)
    assert loss.item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


@pytest.mark.parametrize("grid", [(2, 2), (4, 4), (8, 8), (14, 14)])
def test_blocks_of_i_jepa_are_rectangles_that_the_context_does_not_touch(
    grid: tuple[int, int],
) -> None:
    for seed in range(8):
        blocks = draw_blocks(IJepaConfig(), 16, grid, rng(seed))
        n_targets, size = blocks.targets.shape[1:]
        assert n_targets == 4
        assert blocks.context.shape[1] >= max(grid[0] * grid[1] // 8, 1)
        for context, targets in zip(blocks.context.tolist(), blocks.targets.tolist(), strict=True):
            assert len(set(context)) == len(context)
            for target in targets:
                rows = {place // grid[1] for place in target}
                columns = {place % grid[1] for place in target}
                assert len(rows) * len(columns) == size == len(set(target))
                assert not set(context) & set(target)


def test_nothing_but_the_context_reaches_the_prediction_of_i_jepa() -> None:
    method = build(IJepa).eval()
    images = torch.randn(2, 3, 16, 16)
    blocks = draw_blocks(method.config, 2, (4, 4), rng())
    seen = torch.zeros(2, 16, dtype=torch.bool).scatter(1, blocks.context, True).view(2, 4, 4)
    changed = torch.where(enlarged(seen, (16, 16))[:, None], images, 9.0)
    features, again = (method.backbone.encode_tokens(x, blocks.context) for x in (images, changed))
    torch.testing.assert_close(again, features)
    assert not torch.allclose(method.target(changed), method.target(images))


def test_the_view_of_i_jepa_is_cropped_and_else_left_alone() -> None:
    (recipe,) = IJepa.recipes(IJepaConfig(), VIEW_PRESETS["medical"])
    assert recipe.crop_scale == VIEW_PRESETS["medical"].crop_scale
    only_crop = VIEW_PRESETS["none"].replace(
        crop_scale=recipe.crop_scale, crop_ratio=recipe.crop_ratio
    )
    params = recipe.sample(50, 16, rng())
    plain = only_crop.sample(50, 16, rng())
    drawn = {name: value for name, value in vars(plain).items() if value is not None}
    assert len(drawn) > 10
    for name, value in drawn.items():
        assert torch.equal(torch.as_tensor(getattr(params, name)), torch.as_tensor(value)), name


def test_the_teacher_of_i_jepa_moves_by_its_momentum_and_gets_no_gradient() -> None:
    method = build(IJepa, momentum=0.8)
    method.step(batch(torch.randn(2, 3, 16, 16))).loss.backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    with torch.no_grad():
        for weight in method.backbone.parameters():
            weight += 1
    method.after_step(Progress(step=10, total_steps=10))  # the momentum has become 1
    before = [weight - 1 for weight in method.backbone.parameters()]
    for own, old in zip(method.teacher.parameters(), before, strict=True):
        torch.testing.assert_close(own, old)
    method.after_step(Progress(step=0, total_steps=10))
    for own, old in zip(method.teacher.parameters(), before, strict=True):
        torch.testing.assert_close(own, old + 0.2)


@pytest.mark.parametrize("method", [Mae, IBot, IJepa])
def test_a_method_of_tokens_names_the_backbones_that_serve_it(method: type[Method]) -> None:
    with pytest.raises(BackboneError, match=f"{method.Config().name} .* use the.*small_vit"):
        build(method, CNN)
