"""Loading weights: the whole backbone or an error that names every key."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from melssl.backbones import backbone_config
from melssl.backbones.cnn import TimmCnnBackbone
from melssl.errors import ArtifactError, BackboneError
from melssl.methods.base import PoolFacts
from melssl.methods.no_pretext import TimmWeights, TimmWeightsConfig
from melssl.methods.weights import LoadReport, _for_this_size, load_timm_weights, load_whole

FACTS = PoolFacts(n_samples=8, n_patients=4, image_px=64)


def test_missing_unexpected_and_misshapen_keys_are_all_named() -> None:
    module = torch.nn.Linear(3, 2)
    weights = {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}
    with pytest.raises(ArtifactError) as error:
        load_whole(module, weights, "here")
    assert "missing: bias" in str(error.value)
    assert "unexpected: extra" in str(error.value)
    assert "shape of weight" in str(error.value)


def test_a_whole_load_is_reported_in_entries_and_numbers() -> None:
    report = load_whole(torch.nn.Linear(3, 2), torch.nn.Linear(3, 2).state_dict(), "here")
    assert report == LoadReport(entries=2, numbers=8)
    assert report.plain()["of"] == report.plain()["loaded"] == 2


def test_published_weights_from_a_file_arrive_in_the_backbone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    file = tmp_path / "resnet.safetensors"
    save_file(timm.create_model("resnet10t").state_dict(), file)
    backbone = backbone_config({"family": "cnn", "model": "resnet10t", "stem": "standard"})
    method = TimmWeights(TimmWeightsConfig(file=file), backbone.build(64), FACTS)
    torch.manual_seed(1)
    expected = timm.create_model("resnet10t").layer1[0].conv1.weight
    torch.testing.assert_close(method.backbone.net.layer1[0].conv1.weight, expected)
    assert method.loaded is not None
    assert method.loaded.plain()["loaded"] == len(method.backbone.net.state_dict())
    assert method.loaded.left_out == ("fc.bias", "fc.weight")
    assert method.loaded.resampled == ()


def test_positions_of_a_vit_are_resampled_to_the_image_size(tmp_path: Path) -> None:
    file = tmp_path / "vit.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), file)
    backbone = backbone_config("vit_tiny_patch16_224").build(64)
    method = TimmWeights(TimmWeightsConfig(file=file), backbone, FACTS)
    assert method.backbone.vit.pos_embed.shape == (1, 17, 192)
    assert method.loaded is not None
    assert method.loaded.resampled == ("pos_embed",)


@pytest.mark.parametrize(("image_px", "patch_px"), [(32, 8), (96, 16), (48, 4)])
def test_a_vit_takes_weights_of_another_image_and_patch_size(
    image_px: int, patch_px: int, tmp_path: Path
) -> None:
    file = tmp_path / "vit.safetensors"
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=64, patch_size=8, depth=1)
    save_file(theirs.state_dict(), file)
    backbone = backbone_config({"family": "vit", "patch_px": patch_px}).build(image_px)
    backbone.vit.blocks = backbone.vit.blocks[:1]
    report = load_timm_weights(backbone, file)
    assert report.resampled == tuple(
        name
        for name, fits in [("patch_embed.proj.weight", patch_px == 8), ("pos_embed", False)]
        if not fits
    )
    own, grid = backbone.vit.pos_embed, (image_px // patch_px, image_px // patch_px)
    expected = resample_abs_pos_embed(theirs.pos_embed, grid, (8, 8), num_prefix_tokens=1)
    torch.testing.assert_close(own, expected)


@pytest.mark.filterwarnings("ignore::UserWarning:timm")  # of its own interpolation
def test_the_windows_of_a_swin_are_resampled_to_its_maps() -> None:
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=32, depths=(2, 1, 1, 1))
    table = "layers.1.blocks.0.attn.relative_position_bias_table"
    weights = {table: torch.full((13 * 13, 6), 0.5)}
    fitted = _for_this_size(swin, weights)
    torch.testing.assert_close(fitted[table], torch.full((7 * 7, 6), 0.5))


def test_weights_of_a_published_stem_ask_for_it(tmp_path: Path) -> None:
    file = tmp_path / "resnet.safetensors"
    save_file(timm.create_model("resnet10t").state_dict(), file)
    with pytest.raises(ArtifactError, match="stem=standard"):
        load_timm_weights(backbone_config("resnet10t").build(64), file)


def test_weights_that_timm_cannot_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "odd.safetensors"
    save_file({"layers.9.blocks.0.attn.relative_position_bias_table": torch.zeros(1)}, file)
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=32, depths=(1, 1, 1, 1))
    with pytest.raises(ArtifactError, match="do not fit a SwinTransformer"):
        load_timm_weights(TimmCnnBackbone(swin, 32), file)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "wrong.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), file)
    with pytest.raises(ArtifactError, match="do not fit the whole"):
        TimmWeights(TimmWeightsConfig(file=file), backbone_config("resnet10t").build(64), FACTS)


def test_the_identity_holds_the_content_of_the_file_and_not_its_path(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    first, second = (TimmWeightsConfig(file=tmp_path / name) for name in ("a", "b"))
    assert first.keyed() == second.keyed()
    (tmp_path / "b").write_bytes(b"other")
    assert first.keyed() != second.keyed()


def test_a_small_backbone_has_no_published_weights() -> None:
    with pytest.raises(BackboneError, match="no published weights"):
        TimmWeights(TimmWeightsConfig(), backbone_config("small_cnn").build(64), FACTS)


def test_no_network_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("melssl.methods.weights.load_state_dict_from_hf", refuse)
    with pytest.raises(ArtifactError, match=r"method\.file="):
        TimmWeights(TimmWeightsConfig(), backbone_config("resnet10t").build(64), FACTS)
