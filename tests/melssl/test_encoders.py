"""Encoders: where weights come from before the first step, and which backbone serves a method."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from melssl.artifacts import FACTS, WEIGHTS, Place
from melssl.encoders import build_backbone, build_method, served
from melssl.errors import ArtifactError
from melssl.pipeline import execute
from melssl.pool import pool
from melssl.prepared import Prepared
from melssl.spec import RunSpec, differing
from melssl.stages import stages
from melssl.training.checkpoint import load_tensors


def start(spec: RunSpec, tiny: Prepared) -> dict[str, torch.Tensor]:
    """Return the weights that a method starts from."""
    return build_method(spec, pool(spec, tiny), 2).backbone.state_dict()


@pytest.fixture
def pretrained(tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path) -> Path:
    """Return the weights file of a finished pretraining."""
    execute(stages(tiny_spec, tiny)[0], tiny, Place(inputs={}, out=tmp_path, work=tmp_path))
    return tmp_path / WEIGHTS


@pytest.mark.parametrize("method", ["no_pretext", "simclr", "byol", "supervised"])
def test_every_arm_starts_from_the_file(
    method: str, pretrained: Path, tiny_spec: RunSpec, tiny: Prepared
) -> None:
    spec = tiny_spec.replace(method=method, init=pretrained)
    stored, _ = load_tensors(pretrained)
    assert all(torch.equal(v, stored[f"backbone.{k}"]) for k, v in start(spec, tiny).items())


def test_a_plain_state_of_the_backbone_will_do(
    tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    state = {k: v + 1 for k, v in build_backbone(tiny_spec).state_dict().items()}
    save_file(state, tmp_path / "plain.safetensors")
    got = start(tiny_spec.replace(init=tmp_path / "plain.safetensors"), tiny)
    assert all(torch.equal(v, state[k]) for k, v in got.items())


def test_weights_of_another_backbone_are_refused_with_every_fault(
    pretrained: Path, tiny_spec: RunSpec, tiny: Prepared
) -> None:
    wide = {"family": "small_cnn", "first_width": 16, "n_blocks": 2}
    with pytest.raises(ArtifactError, match="shape of blocks"):
        start(tiny_spec.replace(init=pretrained, backbone=wide), tiny)


def test_what_was_loaded_is_told_beside_the_result(
    pretrained: Path, tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    spec = tiny_spec.replace(init=pretrained, method="no_pretext")
    out = tmp_path / "control"
    out.mkdir()
    execute(stages(spec, tiny)[0], tiny, Place(inputs={}, out=out, work=out))
    told = json.loads((out / FACTS).read_text())["weights"]
    assert told["loaded"] == told["of"] == len(build_backbone(tiny_spec).state_dict())
    assert all(name.startswith("head.") for name in told["left_out"])
    assert told["left_out"], "the projector stays behind"


def test_a_file_enters_the_key_by_its_content_and_the_control_has_it_too(
    pretrained: Path, tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(pretrained.read_bytes())
    for method in ("simclr", "no_pretext"):
        plain = tiny_spec.replace(method=method)
        here, there = (plain.replace(init=file) for file in (pretrained, copied))
        assert stages(here, tiny)[0].key == stages(there, tiny)[0].key
        assert stages(here, tiny)[0].key != stages(plain, tiny)[0].key
        assert differing(here, there) == frozenset()
        assert differing(here, plain) == {"init"}, "no fair pair"
    before = stages(plain.replace(init=copied), tiny)[0].key
    save_file({"other": torch.zeros(1)}, copied)
    os.utime(copied, (1, 1))
    assert stages(plain.replace(init=copied), tiny)[0].key != before


def test_a_missing_file_is_told_when_the_study_is_planned(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    with pytest.raises(ArtifactError, match="init nowhere: cannot be read"):
        stages(tiny_spec.replace(init=Path("nowhere")), tiny)


def test_a_method_keeps_its_backbone_where_that_serves_and_gets_the_first_that_does() -> None:
    cnn, vit = (RunSpec.parse({"backbone": name}) for name in ("small_cnn", "small_vit"))
    assert served(cnn) == cnn
    assert served(vit) == vit
    assert served(cnn.replace(method="mae")).backbone.family == "small_vit"
    assert served(cnn, ["small_vit", "vit"]).backbone.family == "small_vit"
    assert served(cnn.replace(method="mae"), ["small_cnn"]).backbone.family == "small_cnn"
