"""A shared encoder: the same embeddings in timm, in a runtime and in melssl."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from melssl.encoders import build_backbone
from melssl.errors import ArtifactError
from melssl.sharing import CONFIG, MODEL, load_encoder, write_encoder, write_onnx
from melssl.spec import RunSpec
from melssl.training.checkpoint import save_tensors

SMALL_VIT = {"family": "small_vit", "embed_width": 32, "depth": 2, "heads": 2}


def exported(backbone: object, folder: Path) -> tuple[torch.nn.Module, bool]:
    spec = RunSpec.parse({"backbone": backbone, "image_px": 32})
    trained = build_backbone(spec)
    with torch.no_grad():
        trained.train()(torch.randn(8, 3, 32, 32))  # statistics of norms leave their defaults
    state = {f"backbone.{name}": value for name, value in trained.state_dict().items()}
    save_tensors(folder / "stage.safetensors", state, {})
    shared = write_encoder(spec, folder / "stage.safetensors", folder / "shared")
    return trained.eval(), shared.by_timm


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_timm_loads_a_vit_in_one_line(pool: str, tmp_path: Path) -> None:
    trained, by_timm = exported(SMALL_VIT | {"pool": pool}, tmp_path)
    images = torch.randn(3, 3, 32, 32)
    net = timm.create_model(f"local-dir:{tmp_path / 'shared'}", pretrained=True).eval()
    assert by_timm
    with torch.no_grad():
        assert torch.allclose(net(images), trained(images), atol=1e-5)


@pytest.mark.parametrize("backbone", [SMALL_VIT, {"family": "small_cnn", "n_blocks": 2}])
def test_melssl_loads_every_shared_encoder(backbone: dict[str, object], tmp_path: Path) -> None:
    trained, by_timm = exported(backbone, tmp_path)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "shared")(images), trained(images))
    assert by_timm == (backbone["family"] == "small_vit")


def test_a_damaged_folder_is_refused_with_the_way_to_a_whole_one(tmp_path: Path) -> None:
    exported({"family": "small_cnn", "n_blocks": 2}, tmp_path)
    weights = tmp_path / "shared" / MODEL
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ArtifactError, match="export-encoder"):
        load_encoder(tmp_path / "shared")
    (tmp_path / "shared" / CONFIG).unlink()
    with pytest.raises(ArtifactError, match=CONFIG):
        load_encoder(tmp_path / "shared")


@pytest.mark.slow
def test_a_runtime_makes_the_same_embeddings_of_any_number_of_images(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    trained, _ = exported({"family": "small_cnn", "first_width": 8, "n_blocks": 2}, tmp_path)
    assert write_onnx(tmp_path / "shared") < 1e-5
    session = runtime.InferenceSession(str(tmp_path / "shared" / "model.onnx"))
    for n in (1, 5):
        images = torch.randn(n, 3, 32, 32)
        (found,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(found), trained(images), atol=1e-5)
