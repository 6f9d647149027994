"""The contract that every backbone keeps, run over representatives of all families."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.nn import functional as F

from melssl.backbones import BACKBONES, backbone_config
from melssl.backbones.base import Backbone, TokenBackbone
from melssl.frame import Frame

PX = 32
OF_CLIPS: dict[str, object] = {
    "resnet3d": {"family": "resnet3d", "first_width": 4},
    "r2plus1d": {"family": "resnet3d", "first_width": 4, "convolution": "2+1d"},
    "frame_net": {"family": "frame_net", "net": {"family": "small_cnn", "first_width": 8}},
    "frame_lstm": {"family": "frame_net", "net": {"family": "small_cnn", "first_width": 8}}
    | {"over_time": "lstm", "state_width": 16},
    "small_cnn of clips": {"family": "small_cnn", "first_width": 8},
    "small_vit of clips": {"family": "small_vit", "patch_px": 4, "embed_width": 16},
}
MODELS: dict[str, object] = {
    **{name: name for name, family in BACKBONES.items() if "image" in family.media},
    "resnet18, published stem": {"family": "cnn", "model": "resnet18", "stem": "standard"},
    "resnet50": "resnet50",
    "vit_tiny, patches of 4": {"family": "vit", "patch_px": 4, "drop_path": 0.1},
    "vit_tiny, patches of 8, class token": {"family": "vit", "patch_px": 8, "pool": "class"},
    "tiny_vit": "tiny_vit_5m_224",
    "efficientnet": "efficientnet_b0",
    "convnext": "convnext_atto",
    "swin": "swin_tiny_patch4_window7_224",
    **OF_CLIPS,
}
VITS = [name for name in MODELS if name in ("small_vit", "vit") or name.startswith("vit_")]
WHOLE = ("convnext",)  # its last map has one place at 32 px


def build(name: str, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    return backbone_config(MODELS[name]).build(frame_of(name))


def frame_of(name: str) -> Frame:
    return Frame(16, 8, 1) if name in OF_CLIPS else Frame(PX)


@cache
def built(name: str) -> Backbone:
    return build(name)


def images(name: str, halved: bool = False) -> torch.Tensor:
    frame = frame_of(name)
    side = frame.side_px // 2 if halved and name not in WHOLE else frame.side_px
    shape = (2, *replace(frame, side_px=side).shape)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_and_maps_have_the_stated_width_at_the_size_and_at_half_of_it(name: str) -> None:
    backbone = built(name).eval()
    for halved in (False, True):
        seen = images(name, halved)
        with torch.no_grad():
            embeddings, maps = backbone(seen), backbone.features(seen)
        assert embeddings.shape == (2, backbone.width)
        assert torch.isfinite(embeddings).all()
        sides = [m.shape[-1] for m in maps]
        assert len(maps) >= 2
        assert all(m.ndim == seen.ndim and m.shape[-2] == m.shape[-1] for m in maps)
        assert sides == sorted(sides, reverse=True)
        assert maps[-1].shape[:2] == (2, backbone.map_width)


@pytest.mark.parametrize("name", MODELS)
def test_stages_hold_every_weight_once(name: str) -> None:
    backbone = built(name)
    stages = backbone.stages()
    held = [id(weight) for stage in stages for weight in stage.parameters()]
    assert sorted(held) == sorted(id(weight) for weight in backbone.parameters())
    assert all(any(True for _ in stage.parameters()) for stage in stages)
    assert len(stages) >= 4


@pytest.mark.parametrize("name", MODELS)
def test_stages_come_in_order_from_the_input(name: str) -> None:
    """Where the last two are thawed, one or two of the last maps depend on a weight."""
    backbone = built(name).eval()
    thawed = backbone.stages()[-2:]
    backbone.requires_grad_(requires_grad=False)
    for stage in thawed:
        stage.requires_grad_(requires_grad=True)
    maps = backbone.features(images(name))
    backbone.requires_grad_(requires_grad=True)
    depends = [m.requires_grad for m in maps]
    assert depends == sorted(depends)
    assert sum(depends) in (1, 2)


@pytest.mark.parametrize("name", MODELS)
def test_a_gradient_reaches_every_weight_from_the_embedding(name: str) -> None:
    backbone = built(name).train()
    (backbone(images(name)) * torch.linspace(-1, 1, backbone.width)).square().sum().backward()
    without = [key for key, weight in backbone.named_parameters() if weight.grad is None]
    backbone.zero_grad()
    assert without == []


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_gives_nearly_the_same(name: str) -> None:
    backbone = built(name).eval()
    with torch.no_grad():
        whole = backbone(images(name))
        with torch.autocast("cpu", torch.bfloat16):
            half = backbone(images(name)).float()
    assert F.cosine_similarity(whole, half).min() > 0.99


@pytest.mark.parametrize("name", MODELS)
def test_saved_weights_loaded_into_another_give_the_same_embeddings(name: str) -> None:
    backbone, other = built(name).eval(), build(name, seed=1).eval()
    with torch.no_grad():
        embeddings = backbone(images(name))
        assert not torch.equal(embeddings, other(images(name)))
        other.load_state_dict(backbone.state_dict())
        assert torch.equal(embeddings, other(images(name)))


@pytest.mark.parametrize("name", VITS)
def test_a_vit_has_a_token_per_patch_and_one_for_the_class(name: str) -> None:
    backbone = built(name).eval()
    assert isinstance(backbone, TokenBackbone)
    with torch.no_grad():
        tokens = backbone.encode_tokens(images(name))
    assert tokens.shape == (2, 1 + backbone.grid[0] * backbone.grid[1], backbone.width)
    assert backbone.grid[0] * backbone.patch_px == PX
