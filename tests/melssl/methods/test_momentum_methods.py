"""MoCo, BYOL and SimSiam: their formulas, the queue, the target networks, the extremes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS
from melssl.frame import Frame
from melssl.methods import target as target_module
from melssl.methods.base import Batch, Method, PoolFacts
from melssl.methods.byol import Byol, ByolConfig, asymmetric
from melssl.methods.moco_v2 import MoCoV2, MoCoV2Config
from melssl.methods.moco_v3 import MoCoV3, MoCoV3Config
from melssl.methods.pool import PoolFeed
from melssl.methods.simsiam import SimSiam, SimSiamConfig
from melssl.methods.target import Target, annealed, gathered
from melssl.seeding import Seed
from melssl.training.calibration import NoiseImages
from melssl.training.devices import Rank
from melssl.training.loop import fit
from melssl.training.optim import TrainSpec, build_optimizer
from melssl.training.trainable import Progress

PX, N, B = 16, 40, 6
RANK = Rank(0, 1, torch.device("cpu"))
VIT = {"family": "small_vit", "patch_px": 4, "embed_width": 32, "depth": 1, "heads": 2}
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
METHODS: dict[str, type[Method]] = {
    "moco_v2": MoCoV2,
    "moco_v3": MoCoV3,
    "byol": Byol,
    "simsiam": SimSiam,
}
WITH_TARGET = ["moco_v2", "moco_v3", "byol"]
WITH_TEMPERATURE = ["moco_v2", "moco_v3"]


def build(
    name: str, net: dict[str, object] = CNN, n_samples: int = N, **settings: object
) -> Method:
    torch.manual_seed(0)
    cls = METHODS[name]
    small = {"projection_width": 8, "hidden_width": 16}
    facts = PoolFacts(n_samples=n_samples, n_patients=4, image_px=PX)
    return cls(cls.Config.parse(small | settings), backbone_config(net).build(PX), facts)


def two_views(n: int = B, seed: int = 1) -> Batch:
    rng = Seed(seed).torch()
    first, second = (torch.randn(n, 3, PX, PX, generator=rng) for _ in range(2))
    place = torch.arange(n)
    return Batch(views=(first, second), place=place, patient=place, rng=rng)


def feed(method: Method) -> PoolFeed:
    recipes = method.recipes(method.Config(), VIEW_PRESETS["medical"])
    return PoolFeed(NoiseImages(PX), np.arange(N), np.arange(N), recipes, Frame(PX))


def numbers(output: Tensor) -> np.ndarray:
    return output.detach().double().numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))


def info_nce(query: np.ndarray, own: np.ndarray, others: list[np.ndarray], t: float) -> float:
    right = math.exp(cosine(query, own) / t)
    return -math.log(right / (right + sum(math.exp(cosine(query, k) / t) for k in others)))


# formulas


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_moco_v2_is_the_mean_of_equation_one_over_its_queue(temperature: float) -> None:
    method = build("moco_v2", temperature=temperature)
    assert isinstance(method, MoCoV2)
    apart(method)
    method.enqueue(nn.functional.normalize(method.target(two_views(10, seed=3).views[0])))
    batch = two_views()
    queries = numbers(method.projector(method.backbone(batch.views[0])))
    keys, queue = numbers(method.target(batch.views[1])), list(numbers(method.queue))
    expected = [info_nce(q, k, queue, temperature) for q, k in zip(queries, keys, strict=True)]
    result = method.step(batch)
    assert result.loss.item() == pytest.approx(np.mean(expected), rel=1e-5)
    right = [
        cosine(q, k) > max(cosine(q, other) for other in queue)
        for q, k in zip(queries, keys, strict=True)
    ]
    assert result.parts["accuracy"].item() == pytest.approx(np.mean(right))
    assert method.chance == 1 / (1 + len(queue))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_moco_v3_is_algorithm_one_both_ways(temperature: float) -> None:
    method = build("moco_v3", temperature=temperature)
    assert isinstance(method, MoCoV3)
    apart(method)
    batch = two_views()
    encoded = [method.projector(method.backbone(view)) for view in batch.views]
    queries = [numbers(method.predictor(x)) for x in encoded]
    keys = [numbers(method.target(view)) for view in batch.views]
    expected = 0.0
    for q, k in ((queries[0], keys[1]), (queries[1], keys[0])):
        losses = [info_nce(q[i], k[i], [*k[:i], *k[i + 1 :]], temperature) for i in range(B)]
        expected += 2 * temperature * float(np.mean(losses))
    assert method.step(batch).loss.item() == pytest.approx(expected, rel=1e-5)


def test_byol_is_the_squared_distance_of_unit_vectors_both_ways() -> None:
    method = build("byol")
    assert isinstance(method, Byol)
    apart(method)
    batch = two_views()
    predictions = [
        numbers(method.predictor(method.projector(method.backbone(view)))) for view in batch.views
    ]
    targets = [numbers(method.target(view)) for view in batch.views]
    distances = []
    for p, t in ((predictions[0], targets[1]), (predictions[1], targets[0])):
        for i in range(B):
            apart_by = p[i] / math.sqrt(p[i] @ p[i]) - t[i] / math.sqrt(t[i] @ t[i])
            distances.append(float(apart_by @ apart_by))
    assert method.step(batch).loss.item() == pytest.approx(2 * np.mean(distances), rel=1e-5)


def test_simsiam_is_the_mean_negative_cosine_both_ways() -> None:
    method = build("simsiam")
    assert isinstance(method, SimSiam)
    batch = two_views()
    encoded = [method.projector(method.backbone(view)) for view in batch.views]
    first, second = (numbers(z) for z in encoded)
    from_first, from_second = (numbers(method.predictor(z)) for z in encoded)
    expected = [
        -0.5 * cosine(from_first[i], second[i]) - 0.5 * cosine(from_second[i], first[i])
        for i in range(B)
    ]
    result = method.step(batch)
    assert result.loss.item() == pytest.approx(np.mean(expected), rel=1e-5)
    units = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (first, second)]
    spread = np.mean([np.std(unit[:, d], ddof=1) for unit in units for d in range(8)])
    assert result.parts["projection_spread"].item() == pytest.approx(spread, rel=1e-5)


def test_simsiam_learns_through_the_prediction_only() -> None:
    method = build("simsiam")
    assert isinstance(method, SimSiam)
    batch = two_views()
    method.step(batch).loss.backward()
    found = {name: weight.grad.clone() for name, weight in method.named_parameters()}
    method.zero_grad()
    first, second = (method.projector(method.backbone(view)) for view in batch.views)
    constants = first.detach().clone(), second.detach().clone()
    similar = nn.functional.cosine_similarity
    loss = -similar(method.predictor(first), constants[1]).mean() / 2
    (loss - similar(method.predictor(second), constants[0]).mean() / 2).backward()
    for name, weight in method.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-4, atol=1e-6)


def test_a_collapsed_projection_has_no_spread() -> None:
    for name in ("simsiam", "byol"):
        method = build(name)
        with torch.no_grad():
            for weight in method.projector.parameters():
                weight.zero_()
        spread = method.step(two_views()).parts["projection_spread"].item()
        assert spread == pytest.approx(0, abs=1e-6)


# the queue


@pytest.mark.parametrize(
    ("n_samples", "asked", "kept"), [(40, 4096, 10), (40, 7, 7), (2, 4096, 1), (30_000, 4096, 4096)]
)
def test_the_queue_holds_at_most_a_quarter_of_the_pool(
    n_samples: int, asked: int, kept: int
) -> None:
    method = build("moco_v2", n_samples=n_samples, queue_size=asked)
    assert method.queue.shape == (kept, 8)
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(kept))
    assert method.step(two_views()).parts["queue_size"] == kept


def test_the_oldest_keys_leave_first_and_the_queue_wraps_around() -> None:
    method = build("moco_v2", queue_size=5)
    assert isinstance(method, MoCoV2)
    expected = list(range(-5, 0))
    method.queue.copy_(marked(expected))
    for start in (0, 3, 6, 9):
        method.enqueue(marked(range(start, start + 3)))
        expected = [*expected, *range(start, start + 3)][-5:]
        oldest = int(method.oldest)
        in_order = [*method.queue[oldest:, 0].tolist(), *method.queue[:oldest, 0].tolist()]
        assert in_order == expected
    assert method.queue[:, 0].tolist() == [10, 11, 7, 8, 9]  # by hand: 12 keys into 5 places


def test_of_more_keys_than_the_queue_holds_the_last_stay() -> None:
    method = build("moco_v2", queue_size=5)
    assert isinstance(method, MoCoV2)
    method.enqueue(marked(range(2)))
    method.enqueue(marked(range(2, 15)))
    assert sorted(method.queue[:, 0].tolist()) == [10, 11, 12, 13, 14]


def test_the_keys_of_a_batch_are_no_negatives_of_it_and_join_the_queue_after_the_step() -> None:
    method = build("moco_v2", queue_size=8)
    assert isinstance(method, MoCoV2)
    apart(method)
    batch, before = two_views(), method.queue.clone()
    keys = nn.functional.normalize(method.target(batch.views[1]))
    method.step(batch)
    assert torch.equal(method.queue, before)
    method.after_step(Progress(step=1, total_steps=2))
    torch.testing.assert_close(method.queue[:B], keys)  # of the encoder before it moved
    assert torch.equal(method.queue[B:], before[B:])
    method.after_step(Progress(step=2, total_steps=2))
    torch.testing.assert_close(method.queue[:B], keys)  # once and not twice


class StoppedError(Exception):
    """Stands for a power cut."""


def test_the_queue_survives_an_interruption(tmp_path: Path) -> None:
    spec = TrainSpec(epochs=3, batch_size=8)  # 15 steps through 10 places

    def stop(step: int, total: int, loss: float) -> None:
        if step == 7:
            raise StoppedError

    whole, broken, resumed, forgetful = (build("moco_v2") for _ in range(4))
    curves = fit(whole, feed(whole), spec, Seed(1), RANK).curves
    state = tmp_path / "state"
    with pytest.raises(StoppedError):
        fit(broken, feed(broken), spec, Seed(1), RANK, state_file=state, checkpoint_seconds=0,
            listen=stop)  # fmt: skip
    assert int(broken.oldest) == 7 * 8 % 10
    log = fit(resumed, feed(resumed), spec, Seed(1), RANK, state_file=state)
    assert log.curves == curves
    theirs = whole.state_dict()
    assert all(torch.equal(v, theirs[name]) for name, v in resumed.state_dict().items())
    forgetful.load_state_dict({**broken.state_dict(), "queue": forgetful.queue})
    losses = [m.eval().step(two_views()).loss for m in (broken, forgetful)]
    assert not torch.equal(*losses)  # so the queue is something to lose


# target networks


@pytest.mark.parametrize("name", WITH_TARGET)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_a_target_moves_by_its_momentum_and_by_nothing_else(name: str, fraction: float) -> None:
    method = build(name, momentum=0.9)
    apart(method)
    before = [numbers(w) for w in method.target.parameters()]
    online = [numbers(w) for w in method.online.parameters()]
    buffers = {key: value.clone() for key, value in method.target.named_buffers()}
    method.after_step(Progress(step=round(100 * fraction), total_steps=100))
    m = 0.9 if name == "moco_v2" else 1 - (1 - 0.9) * (math.cos(math.pi * fraction) + 1) / 2
    for weight, t, o in zip(method.target.parameters(), before, online, strict=True):
        np.testing.assert_allclose(numbers(weight), m * t + (1 - m) * o, atol=1e-6)
    assert all(torch.equal(v, buffers[key]) for key, v in method.target.named_buffers())


@pytest.mark.parametrize("name", WITH_TARGET)
def test_a_training_cannot_move_a_target_whose_momentum_is_1(name: str) -> None:
    method = build(name, momentum=1.0)
    before = [w.clone() for w in method.target.parameters()]
    online = [w.detach().clone() for w in method.online.parameters()]
    spec = TrainSpec(epochs=1, batch_size=8, lr=0.1, weight_decay=0.1, warmup_share=0)
    fit(method, feed(method), spec, Seed(0), RANK)
    assert all(torch.equal(*pair) for pair in zip(method.target.parameters(), before, strict=True))
    assert any(
        not torch.equal(*pair) for pair in zip(method.online.parameters(), online, strict=True)
    )


@pytest.mark.parametrize("name", WITH_TARGET)
def test_a_target_gets_no_gradient_and_no_place_in_the_optimiser(name: str) -> None:
    method = build(name)
    method.step(two_views()).loss.backward()
    targets = {id(w) for w in method.target.parameters()}
    assert all(w.grad is None and not w.requires_grad for w in method.target.parameters())
    groups = build_optimizer(method, TrainSpec(), method.rate).param_groups
    assert not targets & {id(w) for group in groups for w in group["params"]}


@pytest.mark.parametrize("name", WITH_TARGET)
def test_a_target_starts_as_a_copy_that_shares_no_memory(name: str) -> None:
    method = build(name)
    pairs = list(zip(method.target.parameters(), method.online.parameters(), strict=True))
    assert all(torch.equal(t, o) and t.data_ptr() != o.data_ptr() for t, o in pairs)


def test_a_momentum_of_0_copies_and_of_1_leaves() -> None:
    online, target = nn.Linear(3, 2), Target(nn.Linear(3, 2))
    before = target.net.weight.clone()
    target.follow(online, 1.0)
    assert torch.equal(target.net.weight, before)
    target.follow(online, 0.0)
    assert torch.equal(target.net.weight, online.weight)


def test_a_targets_batch_norm_keeps_its_own_statistics() -> None:
    online = nn.Sequential(nn.BatchNorm1d(2))
    target = Target(online)
    online(torch.randn(8, 2) + 5)
    target.follow(online, 0.5)
    assert torch.equal(target.net[0].running_mean, torch.zeros(2))
    assert not target(torch.randn(8, 2, requires_grad=True)).requires_grad


def test_a_target_does_not_follow_another_network() -> None:
    first, second = nn.Linear(2, 2), nn.BatchNorm1d(2)
    target = Target(nn.Sequential(first, second))
    with pytest.raises(ValueError, match=r"others \(2\.bias, 2\.weight\)"):
        target.follow(nn.Sequential(first, second, nn.Linear(2, 2)), 0.5)


def test_annealing_is_half_a_cosine() -> None:
    assert annealed(0.9, 1.0, 0.0) == pytest.approx(0.9)
    assert annealed(0.9, 1.0, 0.5) == pytest.approx(0.95)
    assert annealed(0.9, 1.0, 1.0) == 1.0
    path = [annealed(0.04, 0.07, f) for f in np.linspace(0, 1, 11)]
    assert path == sorted(path)


def test_a_momentum_waits_for_the_part_of_training_that_anneals() -> None:
    method, other = build("byol", momentum=0.5), build("byol", momentum=0.5)
    for each in (method, other):
        apart(each)
    method.after_step(Progress(step=40, total_steps=100, anneals_from=80))
    other.after_step(Progress(step=0, total_steps=100))
    pairs = zip(method.target.parameters(), other.target.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_keys_of_several_processes_stand_in_the_order_of_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = torch.full((3, 2), 1.0)
    assert gathered(mine) == (mine, 0)
    others = [torch.full((3, 2), float(rank)) for rank in range(3)]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(target_module, "gather", lambda keys: others)
    keys, start = gathered(mine)
    assert torch.equal(keys, torch.cat(others))
    assert torch.equal(keys[start : start + 3], mine)


# what each may and may not do


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("net", [CNN, VIT], ids=["cnn", "vit"])
def test_two_samples_in_half_precision_give_a_finite_loss_in_its_range(
    name: str, net: dict[str, object]
) -> None:
    extreme = {"temperature": 0.005} if name in WITH_TEMPERATURE else {}
    method = build(name, net, **extreme)
    with torch.autocast("cpu", torch.bfloat16):
        result = method.step(two_views(2))
    result.loss.backward()
    assert result.loss.dtype == torch.float32
    low, high = {"simsiam": (-1, 1), "byol": (0, 8)}.get(name, (0, 1000))
    assert low <= result.loss.item() <= high
    grads = [w.grad for w in method.parameters() if w.grad is not None]
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_a_vits_patch_projection_stays_as_it_began_where_moco_v3_freezes_it() -> None:
    moved = {}
    for freeze in (True, False):
        method = build("moco_v3", VIT, freeze_patches=freeze)
        before = {k: w.detach().clone() for k, w in method.backbone.named_parameters()}
        fit(method, feed(method), TrainSpec(epochs=1, batch_size=8), Seed(0), RANK)
        after = dict(method.backbone.named_parameters())
        moved[freeze] = {k for k, w in before.items() if not torch.equal(after[k], w)}
    assert moved[False] - moved[True] == {
        "vit.patch_embed.proj.weight",
        "vit.patch_embed.proj.bias",
    }
    assert all(w.requires_grad for w in build("moco_v3").backbone.parameters())  # a CNN has none


def test_the_rate_of_simsiams_predictor_does_not_decay() -> None:
    method = build("simsiam")
    spec = TrainSpec(warmup_share=0)
    last = spec.lr_at(999, 1000)
    for name, _ in method.named_parameters():
        expected = spec.peak_lr if name.startswith("predictor.") else last
        assert method.rate(name).at(last, spec.peak_lr) == expected
    assert last < 1e-4 * spec.peak_lr
    groups = build_optimizer(method, spec, method.rate).param_groups
    assert {group["rate"].scheduled for group in groups} == {True, False}


@pytest.mark.parametrize(("blur", "first", "second"), [(0.55, 1, 0.1), (0.3, 6 / 11, 0.6 / 11)])
def test_asymmetric_views_are_the_papers_scaled_to_the_base(
    blur: float, first: float, second: float
) -> None:
    base = VIEW_PRESETS["medical"].replace(blur=blur, solarise=0.1)
    one, other = asymmetric(base)
    assert (one.blur, other.blur) == pytest.approx((first, second))
    assert (one.solarise, other.solarise) == pytest.approx((0, 0.2))
    for recipe in (one, other):
        assert recipe.replace(blur=blur, solarise=0.1) == base


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_asymmetric_views_bring_no_more_of_a_change_than_the_base(share: float) -> None:
    one, other = asymmetric(VIEW_PRESETS["medical"].replace(blur=share, solarise=share))
    assert one.blur + other.blur == pytest.approx(2 * share)
    assert one.solarise + other.solarise == pytest.approx(2 * share)
    plain = asymmetric(VIEW_PRESETS["medical"].replace(blur=0))
    assert plain[0] == plain[1]


def test_moco_v2_and_simsiam_show_the_base_twice_and_the_others_share_it_out() -> None:
    base = VIEW_PRESETS["medical"]
    for cls, config in ((MoCoV2, MoCoV2Config()), (SimSiam, SimSiamConfig())):
        assert cls.recipes(config, base) == (base, base)
    for cls, config in ((Byol, ByolConfig()), (MoCoV3, MoCoV3Config())):
        assert cls.recipes(config, base) == asymmetric(base)


@pytest.mark.parametrize("name", METHODS)
def test_a_patients_other_image_may_be_the_second_view(name: str) -> None:
    cls = METHODS[name]
    assert cls.positives(cls.Config()) == "image"
    assert cls.positives(cls.Config.parse({"positives": "patient"})) == "patient"


def apart(method: Method) -> None:
    """Give the target other weights than the network that it follows."""
    with torch.no_grad():
        for weight in method.target.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=Seed(2).torch()))


def marked(values: range | list[int]) -> Tensor:
    """Return keys (n, 8) that hold their number."""
    return torch.tensor(list(values), dtype=torch.float32)[:, None].expand(-1, 8).clone()
