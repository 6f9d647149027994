"""The watchdog: silent over healthy trainings, loud over sick ones, and without any influence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from lightly.utils.debug import std_of_l2_normalized
from torch import Tensor, nn

from melssl.artifacts import CURVES, FACTS, WEIGHTS, Place
from melssl.backbones import backbone_config
from melssl.backbones.base import Backbone
from melssl.data.views import VIEW_PRESETS
from melssl.errors import WatchdogError
from melssl.frame import Frame
from melssl.methods.base import Batch, Method, PoolFacts
from melssl.methods.mae import Mae, MaeConfig
from melssl.methods.pool import PoolFeed
from melssl.methods.rotation import Rotation
from melssl.methods.simclr import SimClr, SimClrConfig
from melssl.methods.simsiam import SimSiam, SimSiamConfig
from melssl.pipeline import execute
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.stages import stages
from melssl.training.alerts import Normal, alerts_in
from melssl.training.checkpoint import load_tensors
from melssl.training.devices import Rank, Runtime
from melssl.training.loop import TrainLog, fit
from melssl.training.optim import StepPlan, TrainSpec
from melssl.training.trainable import StepResult
from melssl.training.watchdog import Watchdog

PX, N = 16, 24
RANK = Rank(0, 1, torch.device("cpu"))
FACTS_OF_POOL = PoolFacts(n_samples=N, n_patients=12, image_px=PX)
CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
VIT = {"family": "small_vit", "patch_px": 4, "embed_width": 16, "depth": 1, "heads": 2}
SPEC = TrainSpec(epochs=70, batch_size=8, lr=5e-2)  # 210 steps
SICK = SPEC.replace(epochs=30, lr=2)


class Blobs:
    """Coloured blobs on coloured ground, each row its own, with some noise."""

    frame = Frame(PX)

    def __init__(self) -> None:
        rng = Seed(0).child("blobs").numpy()
        y, x = np.mgrid[:PX, :PX]
        place, size = rng.uniform(4, 12, (N, 2, 1, 1)), rng.uniform(2, 5, (N, 1, 1))
        inside = (y - place[:, 0]) ** 2 + (x - place[:, 1]) ** 2 < size**2
        ground, blob = rng.uniform(0, 255, (2, N, 3, 1, 1))
        pixels = np.where(inside[:, None], blob, ground) + rng.normal(0, 10, (N, 3, PX, PX))
        self.pixels = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))

    def batch(self, rows: np.ndarray) -> Tensor:
        return self.pixels[torch.from_numpy(rows)]


class SymmetricNoise(Blobs):
    """Noise that looks the same from four sides: nobody can say how it was turned."""

    def __init__(self) -> None:
        noise = torch.rand(N, 3, PX, PX, generator=Seed(1).torch())
        turned = torch.stack([torch.rot90(noise, k, (2, 3)) for k in range(4)]).mean(dim=0)
        self.pixels = (255 * turned).to(torch.uint8)


class Unstopped(SimSiam):
    """SimSiam whose gradient is not stopped, and whose heads have no batch norm to hold it up."""

    def __init__(self, config: SimSiamConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.projector = nn.Linear(backbone.width, 16)
        self.predictor = nn.Linear(16, 16)

    def step(self, batch: Batch) -> StepResult:
        first, second = (self.projector(self.backbone(view)) for view in batch.views)
        p, q = self.predictor(first), self.predictor(second)
        loss = (self.negative_cosine(p, second) + self.negative_cosine(q, first)) / 2
        spread = std_of_l2_normalized(first.detach())
        return StepResult(loss=loss, parts={"projection_spread": spread})


class Constant(Backbone):
    """A network that says the same of every image."""

    width = map_width = 8

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight.expand(len(images), -1)

    def stages(self) -> list[nn.Module]:
        return [self]

    def features(self, images: Tensor) -> list[Tensor]:
        return [self(images)[..., None, None]]


def build(cls: type[Method], backbone: object) -> Method:
    torch.manual_seed(0)
    made = backbone if isinstance(backbone, Backbone) else backbone_config(backbone).build(PX)
    configs = {
        SimClr: SimClrConfig(hidden_width=32),
        Mae: MaeConfig(decoder_width=16, decoder_depth=1),
    }
    return cls(configs.get(cls) or cls.Config(), made, FACTS_OF_POOL)


def feed(method: Method, images: Blobs) -> PoolFeed:
    # views that differ little collapse slowly
    base = VIEW_PRESETS["medical" if isinstance(method, Unstopped) else "weak"]
    recipes = method.recipes(method.Config(), base)
    return PoolFeed(images, np.arange(N), np.arange(N) // 4, recipes, Frame(PX))


def normal(method: Method, spec: TrainSpec = SPEC) -> Normal:
    return Normal(
        width=method.backbone.width,
        total_steps=spec.steps(N).total,
        chance=method.chance,
        compares=isinstance(method, SimClr | SimSiam),
    )


def watchdog(
    method: Method, images: Blobs, spec: TrainSpec = SPEC, stops: bool = False
) -> Watchdog:
    shown = feed(method, images).sample(32, Seed(0), VIEW_PRESETS["none"])
    return Watchdog(method.backbone, shown, spec.steps(N), normal(method, spec), stops=stops)


def trained(method: Method, images: Blobs, spec: TrainSpec = SPEC, **how: object) -> TrainLog:
    observe = watchdog(method, images, spec)
    return fit(method, feed(method, images), spec, Seed(0), RANK, observe=observe, **how)


@cache
def collapsed() -> tuple[Method, TrainLog]:
    method = build(Unstopped, VIT)
    return method, trained(method, Blobs(), SICK)


def kinds(method: Method, log: TrainLog) -> set[str]:
    return {alert.kind for alert in alerts_in(log.curves, normal(method))}


@pytest.mark.parametrize(("cls", "backbone"), [(SimClr, CNN), (Mae, VIT)])
def test_a_healthy_training_gives_no_alert(cls: type[Method], backbone: object) -> None:
    method = build(cls, backbone)
    log = trained(method, Blobs())
    assert kinds(method, log) == set()
    assert log.curves["loss"][-1][1] < 0.9 * log.curves["loss"][0][1]
    assert len(log.curves["spread"]) == len(log.curves["effective_rank"]) == 14


def test_simsiam_without_its_stopped_gradient_collapses() -> None:
    method, log = collapsed()
    assert kinds(method, log) == {"collapse", "projection_collapse"}


def test_a_constant_network_has_collapsed() -> None:
    method = build(SimClr, Constant())
    assert "collapse" in kinds(method, trained(method, Blobs(), SICK))


def test_rotations_of_what_looks_alike_from_all_sides_stay_at_chance() -> None:
    method = build(Rotation, CNN)
    log = trained(method, SymmetricNoise(), SPEC.replace(lr=1e-3))
    assert "at_chance" in kinds(method, log)


def test_a_training_that_is_to_be_stopped_says_why_and_how_to_go_on() -> None:
    method = build(SimClr, Constant())
    dog = watchdog(method, Blobs(), stops=True)
    seen: list[int] = []
    with pytest.raises(WatchdogError, match=r"the encoder collapses.*lower lr.*--watch warn"):
        fit(method, feed(method, Blobs()), SPEC, Seed(0), RANK, observe=dog,
            listen=lambda step, total, loss: seen.append(step))  # fmt: skip
    assert max(seen) < 100


def weights_after(
    observe: Callable[[Method], Watchdog] | None, spec: TrainSpec
) -> dict[str, Tensor]:
    method = build(SimClr, {"family": "cnn", "model": "resnet10t", "drop_path": 0.2})
    dog = observe(method) if observe else None
    fit(method, feed(method, Blobs()), spec, Seed(0), RANK, observe=dog)
    return method.state_dict()


def test_watching_changes_no_weight() -> None:
    spec = TrainSpec(epochs=2, batch_size=8, precision="bf16")
    unseen = weights_after(None, spec)
    seen = weights_after(lambda method: watchdog(method, Blobs(), spec), spec)
    assert all(torch.equal(value, seen[name]) for name, value in unseen.items())


def test_looking_leaves_each_part_in_its_mode() -> None:
    method = build(SimClr, CNN).train()
    method.backbone.blocks[0].eval()
    modes = [part.training for part in method.modules()]
    watchdog(method, Blobs()).look()
    assert [part.training for part in method.modules()] == modes


def test_an_interrupted_training_is_judged_like_a_whole_one(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(step: int, total: int, loss: float) -> None:
        if step == 40:
            raise StoppedError

    whole, expected = collapsed()
    broken, resumed = build(Unstopped, VIT), build(Unstopped, VIT)
    state = tmp_path / "state"
    with pytest.raises(StoppedError):
        trained(broken, Blobs(), SICK, state_file=state, checkpoint_seconds=0, listen=stop)
    log = trained(resumed, Blobs(), SICK, state_file=state)
    assert log.curves == expected.curves
    judged = alerts_in(expected.curves, normal(whole, SICK))
    assert judged
    assert alerts_in(log.curves, normal(resumed, SICK)) == judged


def test_epochs_that_are_looked_at_do_not_depend_on_how_many_there_are() -> None:
    plans = [StepPlan(batch_size=4, per_epoch=5, total=5 * n) for n in (30, 100)]
    short, long = ({step for step in range(p.total + 1) if watchdog_of(p).due(step)} for p in plans)
    assert short - {150} == {step for step in long if step <= 150} - {150}
    assert {0, 5, 10, 150} <= short
    assert (len(short), len(long)) == (11, 15)


def watchdog_of(plan: StepPlan) -> Watchdog:
    normal = Normal(width=8, total_steps=plan.total)
    return Watchdog(Constant(), torch.zeros(1, 3, 8, 8), plan, normal, stops=False)


def test_an_embedding_that_is_not_finite_is_a_collapse() -> None:
    method = build(SimClr, Constant())
    with torch.no_grad():
        method.backbone.weight.fill_(math.inf)
    assert watchdog(method, Blobs()).look() == {"spread": 0.0, "effective_rank": 0.0}


def pretrained(
    spec: RunSpec, prepared: Prepared, root: Path, watch: str
) -> tuple[dict[str, Tensor], dict[str, object], dict[str, object]]:
    root.mkdir()
    runtime = Runtime.parse({"device": "cpu", "watch": watch})
    stage = stages(spec, prepared)[0]
    execute(stage, prepared, Place(inputs={}, out=root, work=root, runtime=runtime))
    facts, curves = (json.loads((root / name).read_text()) for name in (FACTS, CURVES))
    return load_tensors(root / WEIGHTS)[0], facts, curves


def test_a_stage_is_watched_unless_it_is_off_and_its_weights_are_the_same(
    tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    warned = pretrained(tiny_spec, tiny, tmp_path / "warn", "warn")
    unseen = pretrained(tiny_spec, tiny, tmp_path / "off", "off")
    assert all(torch.equal(value, unseen[0][name]) for name, value in warned[0].items())
    assert warned[1]["alerts"] == []
    assert "alerts" not in unseen[1]
    assert next(step for step, _ in warned[2]["spread"]) == 0
    assert "spread" not in unseen[2]
    assert warned[2]["loss"] == unseen[2]["loss"]
