"""Backbones one by one: stems, windows, patches, depths, and errors that say what to do."""

import pytest
import torch
from torch import nn

from melssl.backbones import backbone_config
from melssl.backbones.base import TokenBackbone
from melssl.errors import BackboneError, SpecError


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


def test_a_crop_that_patches_do_not_divide_is_an_error() -> None:
    backbone = backbone_config("small_vit").build(32)
    with pytest.raises(BackboneError, match="multiples of 4 px"):
        backbone(torch.zeros(1, 3, 18, 18))


def test_a_net_that_cannot_see_a_small_crop_names_those_that_can() -> None:
    backbone = backbone_config("convnext_atto").build(48)
    with pytest.raises(BackboneError, match=r"cannot see images of 24 px.*small_cnn"):
        backbone(torch.zeros(2, 3, 24, 24))
    with pytest.raises(BackboneError, match="cannot turn images of 16 px"):
        backbone_config("convnext_atto").build(16)


def test_a_vit_with_registers_goes_to_the_other_family() -> None:
    with pytest.raises(BackboneError, match="no registers"):
        backbone_config("vit_small_patch14_reg4_dinov2").build(28)
    with pytest.raises(BackboneError, match="use the family 'cnn'"):
        backbone_config({"family": "vit", "model": "resnet18"}).build(32)


def test_an_unknown_model_names_close_ones() -> None:
    for family in ("cnn", "vit"):
        with pytest.raises(BackboneError, match="resnet101"):
            backbone_config({"family": family, "model": "resnet100"}).build(32)


def test_windows_of_any_side_serve_a_swin_and_nothing_else() -> None:
    swin = {"family": "cnn", "model": "swin_tiny_patch4_window7_224", "window": 4}
    backbone = backbone_config(swin).build(64)
    sides = [stage.blocks[0].window_size[0] for stage in backbone.net.layers]
    assert sides == [4, 4, 4, 2]  # never larger than the map
    with pytest.raises(BackboneError, match="knows no window_size"):
        backbone_config({"family": "cnn", "window": 4}).build(64)


def test_a_net_that_ends_in_tokens_has_maps_too() -> None:
    backbone = backbone_config("xcit_nano_12_p8_224").build(32).eval()
    maps = backbone.features(torch.zeros(1, 3, 32, 32))
    assert {m.shape for m in maps} == {(1, backbone.map_width, 4, 4)}


def test_the_cifar_resnet_has_the_published_size() -> None:
    backbone = backbone_config("resnet20").build(32)
    layers = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) == 19  # and the classifier, which is the protocol's
    classifier = 64 * 10 + 10
    assert sum(p.numel() for p in backbone.parameters()) + classifier == 269_722
    sides = [m.shape[-1] for m in backbone.features(torch.zeros(1, 3, 32, 32))]
    assert sides == [32, 32, 16, 8]
    assert backbone_config("resnet56").depth == 56
    with pytest.raises(SpecError, match="6 n"):
        backbone_config({"family": "cifar_resnet", "depth": 18})


def test_a_shortcut_of_the_cifar_resnet_is_the_input_and_zeros() -> None:
    block = backbone_config("resnet20").build(32).eval().stages()[2][0]
    nn.init.zeros_(block.second[0].weight)
    x = torch.rand(1, 16, 8, 8)
    expected = torch.cat([x[..., ::2, ::2], torch.zeros(1, 16, 4, 4)], dim=1)
    assert torch.equal(block(x), expected)
