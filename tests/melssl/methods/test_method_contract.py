"""The contract that every method keeps, run over the whole list."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS, ViewRecipe
from melssl.errors import BackboneError, TrainingError
from melssl.frame import Frame
from melssl.methods import METHODS
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts
from melssl.methods.pool import PoolFeed
from melssl.methods.simclr import SimClrConfig
from melssl.methods.supervised import Supervised, SupervisedConfig
from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.loop import fit
from melssl.training.optim import TrainSpec, build_optimizer
from melssl.training.trainable import Progress

PX, N, F = 32, 16, 5
RANK = Rank(0, 1, torch.device("cpu"))
VIT = {"family": "small_vit", "patch_px": 8, "embed_width": 32, "depth": 2, "heads": 2}
CNN = {"family": "small_cnn", "first_width": 8}
SHALLOW = {**CNN, "n_blocks": 2}


@dataclass(frozen=True)
class Kind:
    """A backbone, and what it is shown: samples of a medium, in a frame."""

    backbone: dict[str, object]
    frame: Frame
    medium: str

    def serves(self, name: str) -> bool:
        """Say whether a method can be had on it."""
        return METHODS[name].serves(backbone_config(self.backbone), self.medium)


KINDS = {
    "vit": Kind(VIT, Frame(PX), "image"),
    "cnn": Kind(CNN, Frame(PX), "image"),
    "volume vit": Kind(VIT, Frame(16, 16, 1), "volume"),
    "volume cnn": Kind(SHALLOW, Frame(16, 16, 1), "volume"),
    "clip vit": Kind(VIT, Frame(16, 8, 3), "clip"),
    "clip cnn": Kind(SHALLOW, Frame(16, 8, 3), "clip"),
}
TRAINED = [name for name, method in METHODS.items() if method.trains]
CHOICES = {name: [kind for kind in KINDS if KINDS[kind].serves(name)] for name in TRAINED}
HOME = {name: kinds[0] for name, kinds in CHOICES.items()}
SERVED = [
    (name, kind)
    for name, kinds in CHOICES.items()
    for kind in kinds
    if KINDS[kind].medium == KINDS[HOME[name]].medium
]
ABROAD = [  # of each further medium one backbone, the CNN where it serves
    (name, [kind for kind in kinds if KINDS[kind].medium == medium][-1])
    for name, kinds in CHOICES.items()
    for medium in sorted({KINDS[kind].medium for kind in kinds} - {KINDS[HOME[name]].medium})
]
NO_ORDER = ("order_prediction",)  # which frames of noise do not have; see test_clip_learning.py
GAMES = {"video_gan": "discriminator"}  # where one player wins what the other loses
MUCH_HIDDEN = ("gmml", "sit")  # of noise, another image's noise cannot be told from one's own


class NoiseOfItsOwn:
    """Images or volumes of smooth noise, each row always the same."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        coarse = torch.rand(N, frame.channels, *[8] * frame.n_dims, generator=Seed(0).torch())
        mode = "bilinear" if frame.n_dims == 2 else "trilinear"
        self.pixels = 255 * torch.nn.functional.interpolate(coarse, size=frame.sides, mode=mode)

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return self.pixels[torch.from_numpy(rows)].to(torch.uint8)


def build(
    name: str, kind: str | None = None, seed: int = 0, config: MethodConfig | None = None
) -> Method:
    cls, shown = METHODS[name], KINDS[kind or HOME.get(name, "vit")]
    torch.manual_seed(seed)
    backbone = backbone_config(shown.backbone).build(shown.frame)
    facts = PoolFacts(
        n_samples=N,
        n_patients=4,
        image_px=shown.frame.side_px,
        depth=shown.frame.depth,
        channels=shown.frame.channels,
        n_classes=2,
        metadata_width=F,
    )
    method = cls(config or cls.Config(), backbone, facts)
    method.shown = shown.frame
    if method.looks_at:
        method.look(feed(method).sample(method.looks_at, Seed(0)))
    return method


def feed(method: Method, base: ViewRecipe | None = None) -> PoolFeed:
    config, frame = method.Config(), method.shown
    target = np.arange(N) % 2 if method.uses_labels else None
    metadata = Seed(0).numpy().random((N, F)).astype(np.float32) if method.reads_metadata else None
    return PoolFeed(
        NoiseOfItsOwn(frame),
        np.arange(N),
        np.arange(N) // 4,
        method.recipes(config, base or VIEW_PRESETS["medical" if frame.n_dims == 2 else "volume"]),
        frame,
        target,
        metadata,
        method.positives(config),
    )


def batch(method: Method, seed: int = 0, n: int = N) -> Batch:
    return feed(method).batch(np.arange(n), Seed(seed), RANK)


def at_start(method: Method) -> Method:
    method.train().before_step(Progress(step=0, total_steps=8))
    return method


def same(first: Method, second: Method) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(("name", "kind"), SERVED + ABROAD)
@pytest.mark.parametrize("n", [N, 2])
def test_the_loss_is_a_finite_scalar(name: str, kind: str, n: int) -> None:
    method = at_start(build(name, kind))
    result = method.step(batch(method, n=n))
    assert result.loss.shape == ()
    assert torch.isfinite(result.loss)
    for part in result.parts.values():
        assert part.shape == ()
        assert not part.requires_grad


@pytest.mark.parametrize(("name", "kind"), SERVED)
def test_two_samples_in_half_precision_at_the_lowest_temperature_give_finite_gradients(
    name: str, kind: str
) -> None:
    config = METHODS[name].Config()
    cold = {key: 0.005 for key in config.plain() if "temperature" in key or key == "epsilon"}
    method = at_start(build(name, kind, config=config.replace(**cold)))
    two = batch(method, n=2)
    with torch.autocast("cpu", torch.bfloat16):
        result = method.step(two)
    result.loss.backward()
    assert result.loss.dtype == torch.float32
    assert torch.isfinite(result.loss)
    weights = [weight for weight in method.parameters() if weight.requires_grad]
    assert all(w.grad is not None and torch.isfinite(w.grad).all() for w in weights)


@pytest.mark.parametrize(("name", "kind"), SERVED)
def test_half_precision_gives_nearly_the_same_loss(name: str, kind: str) -> None:
    method = at_start(build(name, kind))
    state = {key: value.clone() for key, value in method.state_dict().items()}
    full = method.step(batch(method)).loss
    method.load_state_dict(state)
    again = batch(method)
    with torch.autocast("cpu", torch.bfloat16):
        half = method.step(again).loss
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(("name", "kind"), SERVED + ABROAD)
def test_every_trainable_weight_of_a_method_receives_a_gradient(name: str, kind: str) -> None:
    method = build(name, kind)
    # what is frozen in the first epoch is trained in later ones
    method.train().before_step(Progress(step=4, total_steps=8))
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
    first, second = at_start(build(name)), at_start(build(name))
    assert torch.equal(first.step(batch(first)).loss, second.step(batch(second)).loss)


@pytest.mark.parametrize("name", TRAINED)
def test_another_seed_gives_another_loss(name: str) -> None:
    first, second = at_start(build(name)), at_start(build(name))
    assert not torch.equal(first.step(batch(first)).loss, second.step(batch(second, 1)).loss)


@pytest.mark.parametrize("name", TRAINED)
def test_a_saved_and_loaded_method_gives_the_same_loss(name: str) -> None:
    method, other = at_start(build(name)), at_start(build(name, seed=1))
    other.load_state_dict(method.state_dict())
    assert torch.equal(method.step(batch(method)).loss, other.step(batch(other)).loss)


@pytest.mark.parametrize(("name", "kind"), SERVED)
def test_a_step_and_what_follows_it_move_only_what_each_should(name: str, kind: str) -> None:
    method = build(name, kind)
    method.train().before_step(Progress(step=4, total_steps=8))
    before = {key: weight.detach().clone() for key, weight in method.named_parameters()}
    method.step(batch(method)).loss.backward()
    frozen = {key for key, weight in method.named_parameters() if not weight.requires_grad}
    build_optimizer(method, TrainSpec(lr=0.1), method.rate).step()
    after = {key: weight.detach().clone() for key, weight in method.named_parameters()}
    assert all(torch.equal(after[key], before[key]) for key in frozen)
    method.after_step(Progress(step=5, total_steps=8))
    weights = dict(method.named_parameters())
    assert all(torch.equal(weights[key], after[key]) for key in weights.keys() - frozen)


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in NO_ORDER])
def test_the_loss_falls_on_a_tiny_pool(name: str) -> None:
    less = {"mask_ratio": 0.25, "noise_share": 0, "alien_share": 0} if name in MUCH_HIDDEN else {}
    less |= {"colour_drop": 0} if name == "relative_position" else {}  # noise has little else
    less |= {"n_permutations": 8} if name.startswith("rubik") else {}
    # noise with holes is noise; without them their question has one answer, which counts nothing
    less |= {"hidden_share": 0, "hidden_weight": 0} if name == "rubik_plus" else {}
    less |= {"moved": 0, "one_channel": 0, "cube_share": 1} if name == "space_time_puzzle" else {}
    method = build(name, config=METHODS[name].Config().replace(**less))
    epochs = 24 if KINDS[HOME[name]].medium == "volume" else 40
    spec = TrainSpec(epochs=epochs, batch_size=N, lr=2e-2, warmup_share=0)
    log = fit(method, feed(method, VIEW_PRESETS["none"]), spec, Seed(0), RANK)
    curve = [value for _, value in log.curves[GAMES.get(name, "loss")]]
    # random keys, with which a queue begins, are no match for the first batch
    start = curve[1] if name == "moco_v2" else curve[0]
    assert np.mean(curve[-5:]) < start - 0.1 * abs(start)


@pytest.mark.parametrize(("name", "kind"), SERVED)
def test_an_interrupted_training_goes_on_with_the_same_numbers(
    name: str, kind: str, tmp_path: Path
) -> None:
    spec = TrainSpec(epochs=2, batch_size=4)

    def stop(step: int, total: int, loss: float) -> None:
        if step == 3:
            raise StoppedError

    whole, broken, resumed = (build(name, kind) for _ in range(3))
    fit(whole, feed(whole), spec, Seed(1), RANK)
    state = tmp_path / "state"
    with pytest.raises(StoppedError):
        fit(broken, feed(broken), spec, Seed(1), RANK, state_file=state, checkpoint_seconds=0,
            listen=stop)  # fmt: skip
    fit(resumed, feed(resumed), spec, Seed(1), RANK, state_file=state)
    assert same(whole, resumed)


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_sees_labels_only_if_it_says_so(name: str) -> None:
    method, again = at_start(build(name)), at_start(build(name))
    views = batch(method)
    assert (views.target is not None) == method.uses_labels
    told = replace(views, target=torch.arange(N) % 2)
    lied = replace(views, rng=batch(method).rng, target=(torch.arange(N) // 2) % 2)
    assert torch.equal(method.step(told).loss, again.step(lied).loss) != method.uses_labels


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_sees_metadata_only_if_it_says_so(name: str) -> None:
    method, again = at_start(build(name)), at_start(build(name))
    views = batch(method)
    assert (views.metadata is not None) == method.reads_metadata
    told = replace(views, metadata=torch.rand(N, F, generator=Seed(1).torch()))
    other = replace(
        views, rng=batch(method).rng, metadata=torch.rand(N, F, generator=Seed(2).torch())
    )
    assert torch.equal(method.step(told).loss, again.step(other).loss) != method.reads_metadata


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_refuses_a_backbone_that_it_says_it_is_not_for(name: str) -> None:
    kind = HOME[name].replace("vit", "cnn")
    if KINDS[kind].serves(name):
        assert build(name, kind).backbone.width > 0
    else:
        with pytest.raises(BackboneError, match="small_vit"):
            build(name, kind)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not m.trains])
def test_a_control_refuses_to_be_trained(name: str) -> None:
    config = METHODS[name].Config()
    assert METHODS[name].recipes(config, VIEW_PRESETS["none"]) == ()
    if name == "no_pretext":
        control = build(name)
        nothing = torch.zeros(0)
        with pytest.raises(TrainingError, match="no pretext"):
            control.step(Batch(views=(), place=nothing, patient=nothing, rng=torch.Generator()))


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


class StoppedError(Exception):
    """Stands for a power cut."""
