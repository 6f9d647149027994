"""The contract that every backbone keeps, run over representatives of all families."""

from functools import cache

import pytest
import torch
from torch.nn import functional as F

from melssl.backbones import BACKBONES, backbone_config
from melssl.backbones.base import Backbone, TokenBackbone

PX = 32
MODELS: dict[str, object] = {
    **{family: family for family in BACKBONES},
    "resnet18, published stem": {"family": "cnn", "model": "resnet18", "stem": "standard"},
    "resnet50": "resnet50",
    "vit_tiny, patches of 4": {"family": "vit", "patch_px": 4, "drop_path": 0.1},
    "vit_tiny, patches of 8, class token": {"family": "vit", "patch_px": 8, "pool": "class"},
    "tiny_vit": "tiny_vit_5m_224",
    "efficientnet": "efficientnet_b0",
    "convnext": "convnext_atto",
    "swin": "swin_tiny_patch4_window7_224",
}
VITS = [name for name in MODELS if name in ("small_vit", "vit") or name.startswith("vit_")]
SMALLER = {"convnext": PX}  # its last map has one place at 32 px


def build(name: str, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    return backbone_config(MODELS[name]).build(PX)


@cache
def built(name: str) -> Backbone:
    return build(name)


def images(px: int = PX) -> torch.Tensor:
    return torch.rand(2, 3, px, px, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_and_maps_have_the_stated_width_at_the_size_and_at_half_of_it(name: str) -> None:
    backbone = built(name).eval()
    for px in (PX, SMALLER.get(name, PX // 2)):
        with torch.no_grad():
            embeddings, maps = backbone(images(px)), backbone.features(images(px))
        assert embeddings.shape == (2, backbone.width)
        assert torch.isfinite(embeddings).all()
        sides = [m.shape[-1] for m in maps]
        assert len(maps) >= 2
        assert all(m.ndim == 4 and m.shape[-2] == m.shape[-1] for m in maps)
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
    maps = backbone.features(images())
    backbone.requires_grad_(requires_grad=True)
    depends = [m.requires_grad for m in maps]
    assert depends == sorted(depends)
    assert sum(depends) in (1, 2)


@pytest.mark.parametrize("name", MODELS)
def test_a_gradient_reaches_every_weight_from_the_embedding(name: str) -> None:
    backbone = built(name).train()
    (backbone(images()) * torch.linspace(-1, 1, backbone.width)).square().sum().backward()
    without = [key for key, weight in backbone.named_parameters() if weight.grad is None]
    backbone.zero_grad()
    assert without == []


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_gives_nearly_the_same(name: str) -> None:
    backbone = built(name).eval()
    with torch.no_grad():
        whole = backbone(images())
        with torch.autocast("cpu", torch.bfloat16):
            half = backbone(images()).float()
    assert F.cosine_similarity(whole, half).min() > 0.99


@pytest.mark.parametrize("name", MODELS)
def test_saved_weights_loaded_into_another_give_the_same_embeddings(name: str) -> None:
    backbone, other = built(name).eval(), build(name, seed=1).eval()
    with torch.no_grad():
        embeddings = backbone(images())
        assert not torch.equal(embeddings, other(images()))
        other.load_state_dict(backbone.state_dict())
        assert torch.equal(embeddings, other(images()))


@pytest.mark.parametrize("name", VITS)
def test_a_vit_has_a_token_per_patch_and_one_for_the_class(name: str) -> None:
    backbone = built(name).eval()
    assert isinstance(backbone, TokenBackbone)
    with torch.no_grad():
        tokens = backbone.encode_tokens(images())
    assert tokens.shape == (2, 1 + backbone.grid[0] * backbone.grid[1], backbone.width)
    assert backbone.grid[0] * backbone.patch_px == PX
