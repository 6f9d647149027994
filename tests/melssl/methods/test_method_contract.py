"""The contract that every method keeps, run over the whole list."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS, ViewRecipe
from melssl.errors import BackboneError, TrainingError
from melssl.methods import METHODS
from melssl.methods.base import Batch, Method, PoolFacts
from melssl.methods.pool import PoolFeed
from melssl.methods.simclr import SimClrConfig
from melssl.methods.supervised import Supervised, SupervisedConfig
from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.loop import Progress, fit
from melssl.training.optim import TrainSpec

PX, N = 32, 16
TRAINED = [name for name, method in METHODS.items() if method.trains]
RANK = Rank(0, 1, torch.device("cpu"))
VIT = {"family": "small_vit", "patch_px": 8, "embed_width": 32, "depth": 2, "heads": 2}


class NoiseOfItsOwn:
    """Images of noise, each row always the same."""

    size_px = PX

    def __init__(self) -> None:
        self.pixels = torch.randint(0, 256, (N, 3, PX, PX), generator=Seed(0).torch())

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return self.pixels[torch.from_numpy(rows)].to(torch.uint8)


def build(name: str, seed: int = 0) -> Method:
    cls = METHODS[name]
    facts = PoolFacts(n_samples=N, n_patients=4, image_px=PX, n_classes=2)
    torch.manual_seed(seed)
    return cls(cls.Config(), backbone_config(VIT).build(PX), facts)


def feed(method: Method, base: ViewRecipe) -> PoolFeed:
    recipes = method.recipes(method.Config(), base)
    target = np.arange(N) % 2 if method.uses_labels else None
    return PoolFeed(NoiseOfItsOwn(), np.arange(N), np.arange(N) // 4, recipes, PX, target)


def batch(method: Method, seed: int = 0) -> Batch:
    return feed(method, VIEW_PRESETS["medical"]).batch(np.arange(N), Seed(seed), RANK)


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_is_a_finite_scalar(name: str) -> None:
    method = build(name)
    loss = method.step(batch(method)).loss
    assert loss.shape == ()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", TRAINED)
def test_every_trainable_weight_of_a_method_receives_a_gradient(name: str) -> None:
    method = build(name)
    method.step(batch(method)).loss.backward()
    without = [
        key
        for key, weight in method.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.abs().sum() > 0)
    ]
    # a bias before batch norm cancels out, by construction
    assert [key for key in without if not key.endswith("bias")] == []


@pytest.mark.parametrize("name", TRAINED)
def test_two_calls_with_one_seed_agree(name: str) -> None:
    first, second = build(name), build(name)
    assert torch.equal(first.step(batch(first)).loss, second.step(batch(second)).loss)


@pytest.mark.parametrize("name", TRAINED)
def test_another_seed_gives_another_loss(name: str) -> None:
    first, second = build(name), build(name)
    assert not torch.equal(first.step(batch(first)).loss, second.step(batch(second, 1)).loss)


@pytest.mark.parametrize("name", TRAINED)
def test_a_saved_and_loaded_method_gives_the_same_loss(name: str) -> None:
    method, other = build(name), build(name, seed=1)
    other.load_state_dict(method.state_dict())
    assert torch.equal(method.step(batch(method)).loss, other.step(batch(other)).loss)


@pytest.mark.parametrize("name", TRAINED)
def test_after_step_leaves_the_trained_weights_alone(name: str) -> None:
    method = build(name)
    before = {k: v.clone() for k, v in method.named_parameters() if v.requires_grad}
    method.after_step(Progress(step=1, total_steps=8))
    assert all(torch.equal(v, dict(method.named_parameters())[k]) for k, v in before.items())


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_falls_on_a_tiny_pool(name: str) -> None:
    method = build(name)
    spec = TrainSpec(epochs=40, batch_size=N, lr=2e-2, warmup_share=0)
    log = fit(method, feed(method, VIEW_PRESETS["none"]), spec, Seed(0), RANK)
    curve = [value for _, value in log.curves["loss"]]
    assert np.mean(curve[-5:]) < 0.9 * curve[0]


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_sees_labels_only_if_it_says_so(name: str) -> None:
    method = build(name)
    views = batch(method)
    assert (views.target is not None) == method.uses_labels
    told = replace(views, target=torch.arange(N) % 2)
    lied = replace(views, rng=batch(method).rng, target=1 - torch.arange(N) % 2)
    same = torch.equal(method.step(told).loss, method.step(lied).loss)
    assert same != method.uses_labels


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not m.trains])
def test_a_control_refuses_to_be_trained(name: str) -> None:
    config = METHODS[name].Config()
    assert METHODS[name].recipes(config, VIEW_PRESETS["none"]) == ()
    if name == "no_pretext":
        control = build(name)
        with pytest.raises(TrainingError, match="no pretext"):
            control.step(
                Batch(views=(), place=torch.zeros(0), patient=torch.zeros(0), rng=torch.Generator())
            )


def test_a_masked_method_names_the_backbones_that_serve_it() -> None:
    cnn = backbone_config({"family": "small_cnn", "first_width": 8}).build(PX)
    facts = PoolFacts(n_samples=N, n_patients=4, image_px=PX)
    with pytest.raises(BackboneError, match="small_vit"):
        METHODS["mae"](METHODS["mae"].Config(), cnn, facts)


def test_the_control_of_equal_compute_passes_as_many_views_as_pretraining() -> None:
    training, n_pool = TrainSpec(epochs=3, batch_size=32), 100
    views = 2 * training.steps(n_pool).total * 32
    for n_rows in (7, 32, 50, 100):
        schedule = Supervised.schedule(SupervisedConfig(), training, n_pool, n_rows)
        plan = schedule.steps(n_rows)
        assert views <= plan.total * plan.batch_size < views + plan.batch_size
    assert Method.schedule(SimClrConfig(), training, n_pool, n_pool) == training


def test_supervised_training_without_labels_is_refused() -> None:
    method = build("supervised")
    with pytest.raises(TrainingError, match="labels with the batch"):
        method.step(replace(batch(method), target=None))
    facts = PoolFacts(n_samples=N, n_patients=4, image_px=PX)
    with pytest.raises(TrainingError, match="2 classes or more"):
        Supervised(SupervisedConfig(), method.backbone, facts)


def test_every_name_in_the_list_is_the_name_in_the_settings() -> None:
    assert all(method.Config().name == name for name, method in METHODS.items())
