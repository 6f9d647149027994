"""Barlow Twins, VICReg, SwAV, DINO and SupCon equal their formulas, written out by loops."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from melssl.backbones import backbone_config
from melssl.backbones.base import Backbone
from melssl.data.views import VIEW_PRESETS
from melssl.errors import BackboneError
from melssl.frame import Frame
from melssl.methods import METHODS
from melssl.methods.barlow_twins import BarlowTwins
from melssl.methods.base import Batch, Method, PoolFacts
from melssl.methods.dino import Dino
from melssl.methods.pool import PoolFeed
from melssl.methods.supcon import SupCon, supervised_contrast
from melssl.methods.swav import Swav, sinkhorn
from melssl.methods.vicreg import VicReg
from melssl.seeding import Seed
from melssl.training.calibration import NoiseImages
from melssl.training.devices import Rank
from melssl.training.loop import fit
from melssl.training.optim import TrainSpec
from melssl.training.trainable import Progress

PX, N = 16, 40
RANK = Rank(0, 1, torch.device("cpu"))
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
VIT = {"family": "small_vit", "patch_px": 4, "embed_width": 32, "depth": 1, "heads": 2}
NARROW = {"hidden_width": 16, "projection_width": 8}


def build(name: str, settings: dict[str, object] | None = None, backbone: object = CNN) -> Method:
    torch.manual_seed(0)
    facts = PoolFacts(n_samples=N, n_patients=10, image_px=PX, n_classes=2)
    cls = METHODS[name]
    config = cls.Config.parse({**NARROW, **(settings or {})})
    return cls(config, backbone_config(backbone).build(PX), facts)


def batch_for(method: Method, n: int, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    sides = [PX, PX] + [PX // 2] * 2 * isinstance(method, Swav | Dino)
    return Batch(
        views=tuple(torch.randn(n, 3, side, side, generator=rng) for side in sides),
        place=torch.arange(n),
        patient=torch.arange(n),
        rng=rng,
        target=torch.arange(n) % 2 if method.uses_labels else None,
    )


def feed(method: Method, config: object) -> PoolFeed:
    recipes = method.recipes(config, VIEW_PRESETS["medical"])
    return PoolFeed(NoiseImages(PX), np.arange(N), np.arange(N) // 4, recipes, Frame(PX))


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def projections(method: Method, batch: Batch) -> list[np.ndarray]:
    """Return what the head makes of every view, in float64; views of one size pass together."""
    with torch.no_grad():
        groups = [batch.views[:2], batch.views[2:]]
        embedded = [method.backbone(torch.cat(group)) for group in groups if group]
        rows = method.head(torch.cat(embedded)).double().numpy()
    return np.split(rows, len(batch.views))


# --- Barlow Twins and VICReg ---


def test_barlow_twins_is_the_distance_of_the_cross_correlation_from_the_identity() -> None:
    method = build("barlow_twins", {"redundancy_weight": 0.3})
    assert isinstance(method, BarlowTwins)
    batch = batch_for(method, 6)
    first, second = projections(method, batch)
    expected = 0.0
    for i in range(8):
        for j in range(8):
            a, b = first[:, i], second[:, j]
            scale = math.sqrt((a.var() + 1e-5) * (b.var() + 1e-5))
            c = sum((a[n] - a.mean()) * (b[n] - b.mean()) for n in range(6)) / 6 / scale
            expected += (1 - c) ** 2 if i == j else 0.3 * c**2
    assert method.step(batch).loss.item() == pytest.approx(expected, rel=1e-4)


def test_vicreg_is_invariance_plus_variance_plus_covariance() -> None:
    weights = {"invariance_weight": 3, "variance_weight": 5, "covariance_weight": 7}
    method = build("vicreg", weights)
    assert isinstance(method, VicReg)
    batch = batch_for(method, 6)
    views = projections(method, batch)
    invariance = np.mean([(a - b) ** 2 for a, b in zip(*map(np.ravel, views), strict=True)])
    variance = covariance = 0.0
    for z in views:
        centred = z - z.mean(axis=0)
        for i in range(8):
            spread = math.sqrt(sum(centred[:, i] ** 2) / 5 + 1e-4)
            variance += max(0.0, 1 - spread) / 8 / 2
            for j in set(range(8)) - {i}:
                covariance += (sum(centred[:, i] * centred[:, j]) / 5) ** 2 / 8
    result = method.step(batch)
    assert result.loss.item() == pytest.approx(
        3 * invariance + 5 * variance + 7 * covariance, rel=1e-5
    )
    for name, value in {"invariance": invariance, "variance": variance}.items():
        assert result.parts[name].item() == pytest.approx(value, rel=1e-5)
    assert result.parts["covariance"].item() == pytest.approx(covariance, rel=1e-5)


def test_an_encoder_that_tells_nothing_apart_pays_the_whole_variance_of_vicreg() -> None:
    method = build("vicreg")
    with torch.no_grad():
        method.head.layers[-1].weight.zero_()
    parts = method.step(batch_for(method, 6)).parts
    assert parts["variance"].item() == pytest.approx(1 - math.sqrt(1e-4))
    assert parts["invariance"] == 0
    assert parts["covariance"] < 1e-12


# --- SwAV ---


def dealt_by_loops(cosines: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """Sinkhorn and Knopp: scale columns to equal totals, then rows to one, again and again."""
    q = np.exp(cosines / epsilon)
    n, k = q.shape
    for _ in range(iterations):
        for j in range(k):
            q[:, j] = q[:, j] / sum(q[:, j]) / k
        for i in range(n):
            q[i] = q[i] / sum(q[i])
    return q


@pytest.mark.parametrize("iterations", [1, 3])
def test_codes_are_those_of_sinkhorn_by_loops(iterations: int) -> None:
    cosines = np.random.default_rng(0).uniform(-1, 1, (7, 4))
    codes = sinkhorn(torch.from_numpy(cosines) / 0.05, iterations)
    np.testing.assert_allclose(codes.numpy(), dealt_by_loops(cosines, 0.05, iterations), rtol=1e-9)


def test_every_image_has_one_code_and_every_prototype_is_used_alike() -> None:
    # all images nearest to one prototype: without dealing they would all be put into it
    scores = torch.randn(12, 3, dtype=torch.float64) + torch.tensor([9.0, 0.0, 0.0])
    codes = sinkhorn(scores, 200)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((3,), 4.0, dtype=torch.float64))


def test_codes_are_finite_where_exponents_would_overflow() -> None:
    codes = sinkhorn(torch.tensor([[1.0, -1.0], [1.0, -1.0]]) / 0.001, 3)
    torch.testing.assert_close(codes, torch.full((2, 2), 0.5))


@pytest.mark.parametrize("queue_full", [False, True])
def test_swav_predicts_the_codes_of_each_large_view_from_all_others(queue_full: bool) -> None:
    method = build("swav", {"prototypes": 5, "queue_size": 6})
    assert isinstance(method, Swav)
    method.queue.copy_(F.normalize(torch.randn(2, 6, 8), dim=-1))
    method.queue_full = queue_full
    batch = batch_for(method, 4)
    views = [unit(view) for view in projections(method, batch)]
    prototypes = unit(method.prototypes.detach().double().numpy())
    losses = []
    for i in (0, 1):
        earlier = method.queue[i].double().numpy()
        rows = np.concatenate([views[i], earlier]) if queue_full else views[i]
        codes = dealt_by_loops(rows @ prototypes.T, 0.05, 3)
        for v in set(range(4)) - {i}:
            for b in range(4):
                p = softmax(prototypes @ views[v][b] / 0.1)
                losses.append(-sum(codes[b, k] * math.log(p[k]) for k in range(5)))
    assert method.step(batch).loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_queue_holds_the_latest_features_and_a_quarter_of_the_pool_at_most() -> None:
    method = build("swav", {"queue_size": 1000})
    assert isinstance(method, Swav)
    assert method.queue.shape == (2, N // 4, 8)
    kept = []
    for seed in range(3):
        batch = batch_for(method, 4, seed)
        kept.append([unit(view) for view in projections(method, batch)[:2]])
        method.step(batch)
        method.after_step(Progress(step=seed + 1, total_steps=9))
    for i in (0, 1):
        expected = np.concatenate([kept[2][i], kept[1][i], kept[0][i]])[:10]
        np.testing.assert_allclose(method.queue[i].numpy(), expected, atol=1e-5)


def test_the_queue_is_used_from_the_second_epoch_on_when_it_is_full() -> None:
    method = build("swav")
    used = []
    for step in range(5):
        method.before_step(Progress(step=step, total_steps=5, per_epoch=2))
        used.append(method.queue_full)
    assert used == [False, False, True, True, True]
    # of an epoch at most half is lost to the last incomplete batch, and the queue is a quarter
    assert method.queue.shape[1] <= N // 2


def test_there_are_no_more_prototypes_than_a_pool_can_fill() -> None:
    assert len(build("swav").prototypes) == N // 4
    assert len(build("swav", {"prototypes": 4}).prototypes) == 4
    assert len(build("dino").centre.value) == N // 4


# --- DINO ---


def test_dino_compares_the_centred_teacher_with_every_other_view() -> None:
    settings = {"temperature": 0.2, "warmup_temperature": 0.05, "prototypes": 5}
    method = build("dino", settings)
    assert isinstance(method, Dino)
    torch.manual_seed(1)
    with torch.no_grad():  # a teacher of its own, and a centre that matters
        for weight in method.teacher.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        method.centre.value.copy_(torch.linspace(-0.3, 0.3, 5))
        method.centre.steps.fill_(100)
    batch = batch_for(method, 4)
    students = projections(method, batch)
    teachers = np.split(method.teacher(torch.cat(batch.views[:2])).double().numpy(), 2)
    centre, losses = method.centre.value.double().numpy(), []
    for g in (0, 1):
        for v in set(range(4)) - {g}:
            for b in range(4):
                said = softmax((teachers[g][b] - centre) / 0.05)
                heard = softmax(students[v][b] / 0.2)
                losses.append(-sum(said[k] * math.log(heard[k]) for k in range(5)))
    assert method.step(batch).loss.item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_after_a_step_teacher_and_centre_have_moved_by_their_momentum_alone() -> None:
    method = build("dino", {"momentum": 0.9, "centre_momentum": 0.75})
    assert isinstance(method, Dino)
    with torch.no_grad():
        for weight in method.student.parameters():
            weight.add_(1.0)
    method.centre.steps.fill_(100)  # past the steps in which a new centre is in a hurry
    batch = batch_for(method, 4)
    before = {k: v.clone() for k, v in method.teacher.net.named_parameters()}
    online = {k: v.clone() for k, v in method.student.named_parameters()}
    method.step(batch).loss.backward()
    scores = method.teacher(torch.cat(batch.views[:2]))
    assert all(weight.grad is None for weight in method.teacher.parameters())
    torch.testing.assert_close(method.centre.value, torch.zeros(10))
    method.after_step(Progress(step=1, total_steps=2))  # half of the way: .9 has become .95
    for name, weight in method.teacher.net.named_parameters():
        torch.testing.assert_close(weight, 0.95 * before[name] + 0.05 * online[name])
    torch.testing.assert_close(method.centre.value, 0.25 * scores.mean(dim=0))


def test_the_teachers_temperature_rises_by_epochs_and_then_stays() -> None:
    rising = {"warmup_temperature": 0.04, "teacher_temperature": 0.08, "warmup_epochs": 4}
    method = build("dino", rising)
    reached = []
    for step in (0, 4, 8, 80):
        method.before_step(Progress(step=step, total_steps=100, per_epoch=2))
        reached.append(method.teacher_temperature)
    assert reached == pytest.approx([0.04, 0.06, 0.08, 0.08])


# --- SwAV and DINO ---


def prototypes_of(method: Method) -> torch.Tensor:
    weight = method.prototypes if isinstance(method, Swav) else method.head.prototypes
    return F.normalize(weight.detach().clone(), dim=1)


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_prototypes_rest_for_an_epoch_and_move_then(name: str) -> None:
    settings = {"small_views": 0, **NARROW}
    moved = []
    for epochs in (1, 2):
        method = build(name, settings)
        before = prototypes_of(method)
        config = METHODS[name].Config.parse(settings)
        spec = TrainSpec(epochs=epochs, batch_size=8, lr=0.1)
        fit(method, feed(method, config), spec, Seed(0), RANK)
        moved.append(float((prototypes_of(method) - before).abs().max()))
    assert moved[0] < 1e-5 < 1e-3 < moved[1]


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("name", ["swav", "dino"])
@pytest.mark.parametrize("stopped_at", [3, 7])  # in the first epoch, and in the second
def test_a_stopped_and_resumed_training_ends_bit_identical(
    name: str, stopped_at: int, tmp_path: Path
) -> None:
    settings = (
        {"small_views": 2, "warmup_epochs": 2, "centre_momentum": 0.9}
        if name == "dino"
        else {"small_views": 2}
    )
    config = METHODS[name].Config.parse({**NARROW, **settings})
    spec = TrainSpec(epochs=3, batch_size=8)

    def stop(step: int, total: int, loss: float) -> None:
        if step == stopped_at:
            raise StoppedError

    whole, broken, resumed = (build(name, settings) for _ in range(3))
    expected = fit(whole, feed(whole, config), spec, Seed(1), RANK)
    state = tmp_path / "state"
    with pytest.raises(StoppedError):
        fit(broken, feed(broken, config), spec, Seed(1), RANK, state_file=state,
            checkpoint_seconds=0, listen=stop)  # fmt: skip
    log = fit(resumed, feed(resumed, config), spec, Seed(1), RANK, state_file=state)
    assert log.curves == expected.curves
    theirs = resumed.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in whole.state_dict().items())
    lives_on = whole.queue if isinstance(whole, Swav) else whole.centre.value
    assert lives_on.abs().sum() > 0


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_small_views_are_smaller_crops_and_can_be_left_out(name: str) -> None:
    cls, base = METHODS[name], VIEW_PRESETS["medical"]
    views = cls.recipes(cls.Config.parse({"small_views": 3}), base)
    assert views[:2] == (base, base)
    assert {(v.size_share, v.crop_scale) for v in views[2:]} == {(0.5, (0.1, 0.4))}
    assert len(views) == 5
    assert cls.recipes(cls.Config.parse({"small_views": 0}), base) == (base, base)


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_a_backbone_of_one_image_size_says_how_to_go_on_without_small_views(name: str) -> None:
    class OneSize(Backbone):
        width = map_width = PX * PX

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=1).view(len(images), PX * PX)

    facts = PoolFacts(n_samples=N, n_patients=10, image_px=PX)
    cls, backbone = METHODS[name], OneSize.__new__(OneSize)
    torch.nn.Module.__init__(backbone)
    with pytest.raises(BackboneError, match=r"views of 8 x 8 px.*small_views=0"):
        cls(cls.Config(), backbone, facts)
    without = cls(cls.Config.parse({"small_views": 0}), backbone, facts)
    large = batch_for(build("vicreg"), 4)
    assert torch.isfinite(without.step(large).loss)


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_patches_that_do_not_divide_a_small_view_say_how_to_go_on_without_them(name: str) -> None:
    coarse = {**VIT, "patch_px": PX}
    with pytest.raises(BackboneError, match=r"views of 8 x 8 px.*small_views=0"):
        build(name, backbone=coarse)
    assert build(name, {"small_views": 0}, coarse).backbone.width == 32


# --- SupCon ---


@pytest.mark.parametrize("classes", [[0, 1, 0, 2, 0, 1], [0] * 6, [0, 1, 2, 3, 4, 5]])
def test_supcon_is_the_mean_of_equation_two(classes: list[int]) -> None:
    method = build("supcon", {"temperature": 0.3})
    assert isinstance(method, SupCon)
    batch = batch_for(method, 6)
    z = unit(np.concatenate(projections(method, batch)))
    both, losses = classes * 2, []
    for i in range(12):
        others = [a for a in range(12) if a != i]
        total = sum(math.exp(z[i] @ z[a] / 0.3) for a in others)
        positives = [p for p in others if both[p] == both[i]]
        terms = [math.log(math.exp(z[i] @ z[p] / 0.3) / total) for p in positives]
        losses.append(-sum(terms) / len(positives))
    labelled = Batch(
        views=batch.views,
        place=batch.place,
        patient=batch.patient,
        rng=batch.rng,
        target=torch.tensor(classes),
    )
    assert method.step(labelled).loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_with_a_class_of_its_own_for_each_image_supcon_is_simclr() -> None:
    supcon, simclr = build("supcon"), build("simclr", {"temperature": 0.1})
    supcon.backbone, supcon.head = simclr.backbone, simclr.head
    batch = batch_for(simclr, 5)
    together = torch.cat(batch.views)
    projected = F.normalize(supcon.head(supcon.backbone(together)), dim=1)
    alone = supervised_contrast(projected, torch.arange(5).repeat(2), 0.1)
    torch.testing.assert_close(simclr.step(batch).loss, alone)


def test_supcon_passes_as_many_views_as_pretraining_on_the_pool() -> None:
    training, n_pool = TrainSpec(epochs=3, batch_size=32), 100
    views = 2 * training.steps(n_pool).total * 32
    for n_rows in (7, 50, 100):
        plan = SupCon.schedule(SupCon.Config(), training, n_pool, n_rows).steps(n_rows)
        assert views <= 2 * plan.total * plan.batch_size < views + 2 * plan.batch_size
