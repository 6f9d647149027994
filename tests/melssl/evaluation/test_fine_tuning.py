"""Tuning an encoder: which weights learn, how fast, from which batches, by which loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from timm.layers import DropPath
from torch.nn import functional as F

from melssl.artifacts import Place
from melssl.backbones import backbone_config
from melssl.backbones.base import Backbone
from melssl.data.views import VIEW_PRESETS
from melssl.errors import BackboneError, SpecError
from melssl.evaluation.protocols.base import Evidence, Verdict
from melssl.evaluation.protocols.classifier import (
    Classifier,
    Freedom,
    Objective,
    depths,
    inverse_frequency,
)
from melssl.evaluation.protocols.fine_tune import FineTune
from melssl.evaluation.protocols.labelled import LabelledBatch, LabelledFeed
from melssl.evaluation.protocols.partial_fine_tune import PartialFineTune
from melssl.frame import Frame
from melssl.pipeline import execute
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.stages import stages
from melssl.training.calibration import NoiseImages
from melssl.training.devices import Rank
from melssl.training.loop import fit
from melssl.training.optim import TrainSpec
from melssl.training.trainable import Progress

CPU = Rank(0, 1, torch.device("cpu"))
TARGET = np.array([0] * 12 + [1] * 3 + [3])
FAMILIES = {
    "small_vit": {"family": "small_vit", "embed_width": 16, "depth": 3, "heads": 2},
    "small_cnn": {"family": "small_cnn", "first_width": 8},
    "cifar_resnet": {"family": "cifar_resnet", "depth": 8, "first_width": 4},
    "resnet10t": "resnet10t",
    "tiny_vit_5m_224": "tiny_vit_5m_224",
}


def built(name: str) -> Backbone:
    torch.manual_seed(0)
    return backbone_config(FAMILIES[name]).build(64)


def feed(sampling: str = "natural", mixup_alpha: float = 0.0) -> LabelledFeed:
    rows, recipe = np.arange(len(TARGET)), VIEW_PRESETS["weak"]
    return LabelledFeed(NoiseImages(16), rows, TARGET, recipe, Frame(16), sampling, mixup_alpha)


def literal_loss(
    logits: torch.Tensor, target: torch.Tensor, weight: tuple[float, ...] | None, gamma: float
) -> float:
    total = 0.0
    for row, label in zip(logits.double().tolist(), target.tolist(), strict=True):
        p = math.exp(row[label]) / sum(math.exp(x) for x in row)
        w = 1.0 if weight is None else weight[label]
        total += w * (1 - p) ** gamma * -math.log(p)
    return total / len(target)


@pytest.mark.parametrize("weight", [None, (0.5, 2.0, 1.0)])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_the_loss_is_its_formula(weight: tuple[float, ...] | None, gamma: float) -> None:
    logits = torch.randn(7, 3, generator=Seed(0).torch()) * 3
    target = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    loss = Objective(weight=weight, gamma=gamma).loss(logits, target)
    assert float(loss) == pytest.approx(literal_loss(logits, target, weight, gamma), rel=1e-5)


def test_without_options_the_loss_is_cross_entropy_to_the_bit() -> None:
    logits, target = torch.randn(9, 4), torch.arange(9) % 4
    assert torch.equal(Objective().loss(logits, target), F.cross_entropy(logits, target))


@pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
def test_the_focal_loss_has_a_slope_where_a_sample_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    Objective(gamma=gamma).loss(logits, torch.tensor([0, 0])).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_inverse_weights_make_classes_count_alike() -> None:
    weight = inverse_frequency(TARGET, 5)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=TARGET)
    np.testing.assert_allclose([weight[k] for k in (0, 1, 3)], expected)
    assert weight[2] == weight[4] == 0
    assert np.mean([weight[k] for k in TARGET]) == pytest.approx(1)


def test_a_balanced_batch_holds_every_class_of_the_budget_equally_often() -> None:
    counts = []
    for step in range(30):
        batch = feed("balanced").batch(np.arange(10), Seed(0).child(step), CPU)
        _, count = np.unique(batch.target.numpy(), return_counts=True)
        assert len(count) == 3
        assert count.max() - count.min() <= 1
        counts.append(count)
    assert len({tuple(count) for count in counts}) == 3  # no class gets the odd place each time


def test_balancing_and_mixing_leave_the_augmentation_as_it_is() -> None:
    seen = {}

    class Watched(NoiseImages):
        def batch(self, rows: np.ndarray) -> torch.Tensor:
            return super().batch(np.zeros(len(rows)))

    for sampling in ("natural", "balanced"):
        watched = replace(feed(sampling), images=Watched(16))
        seen[sampling] = watched.batch(np.arange(8), Seed(3), CPU).images
    assert torch.equal(seen["natural"], seen["balanced"])


def test_mixed_images_are_sums_of_two_and_their_loss_is_the_sum_of_both() -> None:
    plain = feed().batch(np.arange(16), Seed(5), CPU)
    mixed = feed(mixup_alpha=0.4).batch(np.arange(16), Seed(5), CPU)
    assert plain.other is None
    assert mixed.other is not None
    assert 0 < mixed.share < 1
    rest = (mixed.images - mixed.share * plain.images) / (1 - mixed.share)
    for image, label in zip(rest, mixed.other, strict=True):
        same = (image - plain.images).abs().amax(dim=(1, 2, 3)) < 1e-3
        assert same.sum() == 1
        assert plain.target[same] == label
    model = Classifier(built("small_cnn"), 4).eval()
    views = torch.nn.functional.interpolate(mixed.images, 64)
    with torch.no_grad():
        whole = model.step(LabelledBatch(views, mixed.target, mixed.other, mixed.share)).loss
        one, two = (model.step(LabelledBatch(views, t)).loss for t in (mixed.target, mixed.other))
    assert float(whole) == pytest.approx(float(mixed.share * one + (1 - mixed.share) * two))


def test_what_corrects_class_shares_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="use one of them"):
        FineTune.parse({"sampling": "balanced", "class_weight": "inverse"})


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stage_learns_slower_the_nearer_it_is_to_the_input(name: str) -> None:
    model = Classifier(built(name), 2, freedom=Freedom(layer_decay=0.5))
    n = len(model.backbone.stages())
    scale = {k: model.rate(k).scale for k, _ in model.named_parameters()}
    for place, stage in enumerate(model.backbone.stages()[:-1]):
        ids = {id(w) for w in stage.parameters()}
        mine = {scale[k] for k, w in model.named_parameters() if id(w) in ids}
        assert mine == {0.5 ** (n - place)}
    assert scale["head.weight"] == scale["head.bias"] == 1
    assert min(scale.values()) == 0.5**n
    assert {s for k, s in scale.items() if not k.startswith("head")} <= {
        *(0.5**i for i in range(1, n + 1)),
        1.0,
    }


def test_a_vit_has_the_published_rates() -> None:
    depth = depths(built("small_vit"))
    assert {depth[f"vit.{k}"] for k in ("pos_embed", "cls_token", "patch_embed.proj.bias")} == {0}
    assert [depth[f"vit.blocks.{i}.attn.qkv.weight"] for i in range(3)] == [1, 2, 3]
    assert depth["vit.norm.weight"] == 4  # as fast as the head


def test_without_decay_all_weights_share_one_rate() -> None:
    model = Classifier(built("small_vit"), 2)
    assert {model.rate(name) for name, _ in model.named_parameters()} == {model.rate("head.bias")}


def trained(model: Classifier, steps: int = 4) -> Classifier:
    spec = TrainSpec(epochs=steps, batch_size=16, lr=0.1)
    images = replace(feed(), frame=Frame(64))
    fit(model, images, spec, Seed(0), CPU)
    return model


def moved(model: Classifier, before: dict[str, torch.Tensor]) -> set[str]:
    return {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}


@pytest.mark.parametrize("name", FAMILIES)
def test_partial_tuning_changes_the_last_stages_and_nothing_before(name: str) -> None:
    tuning = PartialFineTune(last_stages=2)
    model = tuning.classifier(built(name), TARGET, 4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    last = {id(w) for stage in model.backbone.stages()[-2:] for w in stage.parameters()}
    names = {k for k, w in model.backbone.named_parameters() if id(w) in last}
    changed = {k.removeprefix("backbone.") for k in moved(trained(model, 1), before)}
    weights = {k for k, _ in model.backbone.named_parameters()}
    assert names & changed
    assert not changed & (weights - names)
    frozen_modules = {k.rpartition(".")[0] for k in weights - names}
    assert not {k for k in changed if k.rpartition(".")[0] in frozen_modules}  # batch norms, too


def test_more_stages_than_there_are_is_an_error_that_says_how_many(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    spec = tiny_spec.replace(protocol={"name": "partial_fine_tune", "last_stages": 3})
    with pytest.raises(BackboneError, match=r"at most 2.*got 3"):
        stages(spec, tiny)


def test_a_resting_encoder_does_not_move_and_then_it_does() -> None:
    model = Classifier(built("small_cnn"), 4, freedom=Freedom(frozen_share=0.5))
    start = {k: v.clone() for k, v in model.state_dict().items()}
    seen: dict[int, set[str]] = {}
    after_step = model.after_step

    def watch(progress: Progress) -> None:
        after_step(progress)
        seen[progress.step] = {k for k in moved(model, start) if k.startswith("backbone.")}

    model.after_step = watch  # type: ignore[method-assign]
    trained(model, 4)
    assert seen[1] == seen[2] == set()
    assert any("running_mean" in name for name in seen[3])
    assert any(name.endswith("0.weight") for name in seen[3])
    assert moved(model, start) >= {"head.weight", "head.bias"}


def test_the_head_learns_while_the_encoder_rests() -> None:
    model = Classifier(built("small_cnn"), 4, freedom=Freedom(frozen_share=0.9))
    start = {k: v.clone() for k, v in model.state_dict().items()}
    model.before_step(Progress(step=0, total_steps=10))
    images = torch.randn(4, 3, 64, 64)
    model.step(LabelledBatch(images, torch.tensor([0, 1, 2, 3]))).loss.backward()
    assert model.head.weight.grad is not None
    assert all(w.grad is None for w in model.backbone.parameters())
    assert not moved(model, start)


def test_drop_path_reaches_tuning_though_pretraining_had_none(
    tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Backbone] = []

    def judge(protocol: FineTune, evidence: Evidence) -> Verdict:
        found.append(evidence.backbone())
        return Verdict(probability=np.full((len(evidence.test), 2), 0.5))

    monkeypatch.setattr(FineTune, "judge", judge)
    spec = tiny_spec.replace(backbone="resnet10t", method="no_pretext")
    for drop_path in (None, 0.2):
        chain = stages(spec.replace(protocol={"name": "fine_tune", "drop_path": drop_path}), tiny)
        for stage in chain:
            work = tmp_path / stage.key
            work.mkdir(exist_ok=True)
            inputs = {kind: tmp_path / key for kind, key in stage.needs}
            execute(stage, tiny, Place(inputs=inputs, out=work, work=work))
    drops = [[m.drop_prob for m in net.modules() if isinstance(m, DropPath)] for net in found]
    assert not drops[0]
    assert max(drops[1]) == pytest.approx(0.2)
    theirs = found[1].state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in found[0].state_dict().items())


def test_drop_path_of_a_backbone_without_any_is_an_error_in_the_plan(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    spec = tiny_spec.replace(protocol={"name": "fine_tune", "drop_path": 0.1})
    with pytest.raises(BackboneError, match="'small_cnn' has no drop path"):
        stages(spec, tiny)


@pytest.fixture
def interrupted(tmp_path: Path) -> Callable[[Freedom, bool], dict[str, torch.Tensor]]:
    """Return what trains six steps, at once or with a stop after the fourth."""

    def run(freedom: Freedom, stop: bool) -> dict[str, torch.Tensor]:
        state = tmp_path / "state.safetensors"
        state.unlink(missing_ok=True)
        spec = TrainSpec(epochs=6, batch_size=16, lr=0.1)
        images = replace(feed("balanced", 0.2), frame=Frame(64))
        if stop:
            halted = Classifier(built("small_cnn"), 4, freedom=freedom)
            halt = halted.after_step

            def raise_at_four(progress: Progress) -> None:
                halt(progress)
                if progress.step == 5:
                    raise KeyboardInterrupt

            halted.after_step = raise_at_four  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                fit(halted, images, spec, Seed(0), CPU, state_file=state, checkpoint_seconds=0)
        model = Classifier(built("small_cnn"), 4, freedom=freedom)
        fit(model, images, spec, Seed(0), CPU, state_file=state, checkpoint_seconds=0)
        return model.state_dict()

    return run


def test_an_interruption_after_the_encoder_woke_changes_nothing(
    interrupted: Callable[[Freedom, bool], dict[str, torch.Tensor]],
) -> None:
    freedom = Freedom(frozen_share=0.5, layer_decay=0.7)
    whole, resumed = (interrupted(freedom, stop) for stop in (False, True))
    assert all(torch.equal(v, resumed[k]) for k, v in whole.items())
