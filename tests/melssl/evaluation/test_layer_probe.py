"""The layer probe: comparable widths, one pass for all layers, and layers that do not exist."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from melssl.artifacts import FACTS, PREDICTIONS, WEIGHTS, Place
from melssl.backbones import backbone_config
from melssl.data.images import Images
from melssl.data.views import VIEW_PRESETS, apply_view
from melssl.encoders import load_backbone
from melssl.errors import ArtifactError, SpecError
from melssl.evaluation.layers import layer_widths, pooled, pooled_layers
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.frame import Frame
from melssl.pipeline import execute
from melssl.prepared import Prepared
from melssl.settings import with_overrides
from melssl.spec import RunSpec
from melssl.stages import stages


@dataclass(frozen=True, kw_only=True)
class Counted(Prepared):
    """A prepared study that counts which images are read."""

    seen: list[int] = field(default_factory=list)

    def images(self) -> Images:
        store, seen = super().images(), self.seen

        class Counting:
            frame = store.frame

            def batch(self, rows: np.ndarray) -> torch.Tensor:
                seen.extend(rows.tolist())
                return store.batch(rows)

        return Counting()


@pytest.fixture(scope="module")
def layered(tiny_spec: RunSpec) -> RunSpec:
    return tiny_spec.replace(method="no_pretext", protocol={"name": "layer_probe", "width": 100})


def counted(tiny: Prepared) -> Counted:
    return Counted(cohort=tiny.cohort, folds=tiny.folds, store=tiny.store)


def run(spec: RunSpec, prepared: Prepared, root: Path) -> dict[str, Path]:
    done: dict[str, Path] = {}
    for stage in stages(spec, prepared):
        out = root / stage.key
        if not out.exists():
            out.mkdir(parents=True)
            execute(stage, prepared, Place(inputs=dict(done), out=out, work=out))
        done[stage.kind] = out
    return done


def test_a_map_is_averaged_over_the_squares_of_the_finest_grid_that_fits() -> None:
    features = torch.arange(2 * 3 * 6 * 6, dtype=torch.float64).view(2, 3, 6, 6)
    found = pooled(features, 3 * 3 * 3 + 2)
    assert found.shape == (2, 27)
    literal = [
        features[b, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()
        for b in range(2)
        for c in range(3)
        for i in range(3)
        for j in range(3)
    ]
    np.testing.assert_allclose(found.flatten(), torch.stack(literal))


@pytest.mark.parametrize(
    ("channels", "side", "expected"),
    [(64, 16, 64 * 16), (65, 16, 65 * 9), (16, 4, 16 * 16), (1024, 7, 1024), (2048, 7, 2048)],
)
def test_no_layer_is_wider_than_another_needs_to_be(
    channels: int, side: int, expected: int
) -> None:
    assert pooled(torch.zeros(1, channels, side, side), 1024).shape == (1, expected)


@pytest.mark.parametrize(
    ("backbone", "n_layers"), [("small_cnn", 4), ("small_vit", 4), ("resnet10t", 5)]
)
def test_a_probe_can_stand_at_every_stage_or_block(backbone: str, n_layers: int) -> None:
    config = backbone_config(backbone)
    before = torch.random.get_rng_state()
    widths = layer_widths(config, Frame(32), 1024)
    assert torch.equal(before, torch.random.get_rng_state())
    assert len(widths) == n_layers
    assert all(512 <= width <= 1024 for width in widths)


def test_all_layers_budgets_and_draws_share_one_pass_and_widths_do_not(
    layered: RunSpec, tiny: Prepared
) -> None:
    def keys(*overrides: str) -> tuple[str, str]:
        _, embed, adapt = stages(with_overrides(layered, overrides), tiny)
        return embed.key, adapt.key

    (embed, adapt), others = keys(), ["protocol.layer=1", "protocol.layer=2", "budget.draw=1"]
    for other in others:
        assert keys(other)[0] == embed
        assert keys(other)[1] != adapt
    assert keys("protocol.width=99")[0] != embed
    assert keys("protocol=linear_probe")[0] != embed


def test_each_image_is_read_once_and_every_layer_is_judged_as_by_a_linear_probe(
    layered: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    prepared = counted(tiny)
    for layer in (1, 2, -1):
        spec = with_overrides(layered, [f"protocol.layer={layer}"])
        done = run(spec, prepared, tmp_path)
        features = np.load(sorted(done["embed"].glob("*.npy"))[layer - 1 if layer > 0 else -1])
        direct = run(layered.replace(protocol="linear_probe"), tiny, tmp_path / "linear")
        as_embedding = tmp_path / f"layer{layer}"
        as_embedding.mkdir()
        np.save(as_embedding / "embeddings.npy", features)
        stage = stages(layered.replace(protocol=LinearProbe()), tiny)[-1]
        inputs = {**direct, "embed": as_embedding}
        execute(stage, tiny, Place(inputs=inputs, out=as_embedding, work=as_embedding))
        expected, found = (Predictions.load(p / PREDICTIONS) for p in (as_embedding, done["adapt"]))
        np.testing.assert_array_equal(found.probability, expected.probability)
        assert dict(found.thresholds) == dict(expected.thresholds)
    assert sorted(prepared.seen) == list(range(len(tiny.cohort)))


def test_what_is_stored_are_the_pooled_maps_of_the_pretrained_backbone(
    layered: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    done = run(layered, tiny, tmp_path)
    backbone, _ = load_backbone(layered, done["pretrain"] / WEIGHTS)
    rows = np.arange(5)
    params = VIEW_PRESETS["none"].sample(5, tiny.images().frame, torch.Generator())
    with torch.inference_mode():
        images = apply_view(tiny.images().batch(rows), params)
        expected = pooled_layers(backbone.eval(), images, 100)
    found = [np.load(file)[rows] for file in sorted(done["embed"].glob("*.npy"))]
    assert len(found) == 2
    for layer, stored in zip(expected, found, strict=True):
        np.testing.assert_allclose(stored, layer, atol=1e-5)
    facts = json.loads((done["embed"] / FACTS).read_text())
    assert facts["layer_widths"] == [layer.shape[1] for layer in found] == [72, 64]


def test_a_layer_that_does_not_exist_is_an_error_in_the_plan(
    layered: RunSpec, tiny: Prepared
) -> None:
    with pytest.raises(SpecError, match=r"expected 1\.\.2.*got 3.*2 stages or blocks"):
        stages(with_overrides(layered, ["protocol.layer=3"]), tiny)
    with pytest.raises(SpecError, match="counted from 1"):
        with_overrides(layered, ["protocol.layer=0"])


def test_layers_of_another_cohort_are_refused(
    layered: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    np.save(tmp_path / "layer-001.npy", np.zeros((3, 4)))
    place = Place(inputs={"embed": tmp_path}, out=tmp_path, work=tmp_path)
    with pytest.raises(ArtifactError, match="3 embeddings"):
        execute(stages(layered, tiny)[-1], tiny, place)
