"""Every backbone family: shapes at small sizes, stems, and errors that say what to do."""

import pytest
import torch

from melssl.backbones import BACKBONES, backbone_config
from melssl.backbones.base import TokenBackbone
from melssl.errors import BackboneError, SpecError


@pytest.mark.parametrize(
    "name", [*BACKBONES, "resnet18", "vit_tiny_patch16_224", "tiny_vit_5m_224"]
)
@pytest.mark.parametrize("image_px", [32, 64])
def test_embeddings_have_the_stated_width(name: str, image_px: int) -> None:
    if name == "tiny_vit_5m_224" and image_px == 32:
        pytest.skip("TinyViT's windows need a map of at least 7 places")
    backbone = backbone_config(name).build(image_px).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(2, 3, image_px, image_px)).shape == (2, backbone.width)


@pytest.mark.parametrize("name", BACKBONES)
def test_stages_hold_trainable_weights_in_order(name: str) -> None:
    backbone = backbone_config(name).build(32)
    stages = backbone.stages()
    assert len(stages) >= 2
    assert all(any(p.requires_grad for p in stage.parameters()) for stage in stages)


def test_a_small_stem_keeps_more_of_a_small_image() -> None:
    sizes = {}
    for stem in ("standard", "stride2", "stride1"):
        config = backbone_config({"family": "cnn", "model": "resnet10t", "stem": stem})
        sizes[stem] = config.build(48).net.forward_features(torch.zeros(1, 3, 48, 48)).shape[-1]
    assert sizes == {"standard": 2, "stride2": 3, "stride1": 6}


def test_tokens_come_with_the_class_token_first() -> None:
    backbone = backbone_config("small_vit").build(32)
    assert isinstance(backbone, TokenBackbone)
    assert backbone.encode_tokens(torch.zeros(2, 3, 32, 32)).shape == (2, 65, backbone.width)


def test_a_timm_name_chooses_the_family() -> None:
    assert backbone_config("resnet18").family == "cnn"
    assert backbone_config("vit_small_patch16_224").family == "vit"


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(SpecError, match="resnet18"):
        backbone_config("resnet_18")


def test_patches_that_do_not_divide_the_image_are_an_error() -> None:
    with pytest.raises(BackboneError, match="multiple of 6"):
        backbone_config("small_vit").build(50)


def test_a_stem_for_another_family_is_an_error() -> None:
    config = backbone_config({"family": "cnn", "model": "efficientnet_b0", "stem": "stride1"})
    with pytest.raises(BackboneError, match="stem=auto"):
        config.build(64)
