"""Vision transformers: any timm ViT, and a small one for small images on a CPU."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from melssl.backbones.base import BackboneConfig, TokenBackbone
from melssl.backbones.timm_nets import make_net, plain_attention_on_cpu, stages_of, timm_class
from melssl.errors import BackboneError

GRID = 8


class VitBackbone(TokenBackbone):
    """A timm ``VisionTransformer`` whose embedding is the mean patch token or the class token."""

    def __init__(self, vit: VisionTransformer, pool: str) -> None:
        super().__init__()
        plain = vit.cls_token is not None and vit.pos_embed is not None
        if not plain or vit.num_prefix_tokens != 1 or not isinstance(vit.patch_embed, PatchEmbed):
            raise BackboneError(
                "expected a ViT of plain patches with a class token, absolute positions and no "
                "registers; use for example vit_tiny_patch16_224, or the family 'cnn' for this one"
            )
        self.vit = vit
        self.pool = pool
        self.width = self.map_width = vit.embed_dim
        vit.patch_embed.strict_img_size = False  # small crops have a smaller grid
        self.patch_px = vit.patch_embed.patch_size[0]
        rows, columns = vit.patch_embed.grid_size
        self.grid = (rows, columns)

    def encode_tokens(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Return normalised tokens (B, 1 + P + K, width): class token, prefix, patches."""
        tokens = self._embed(images, keep, hidden, mask_token, prefix)
        encoded: Tensor = self.vit.norm(self.vit.blocks(tokens))
        return encoded

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the patch tokens after every block as maps, the last ones normalised."""
        rows, columns = self._grid_of(images)
        tokens, maps = self._embed(images), []
        for index, block in enumerate(self.vit.blocks):
            tokens = block(tokens)
            last = index == len(self.vit.blocks) - 1
            patches = (self.vit.norm(tokens) if last else tokens)[:, 1:]
            maps.append(patches.transpose(1, 2).unflatten(2, (rows, columns)))
        return maps

    def _embed(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Return what the first block reads, (B, 1 + P + K, width)."""
        vit = self.vit
        grid = self._grid_of(images)
        patches = vit.patch_embed(images)
        if hidden is not None and mask_token is not None:
            patches = torch.where(hidden[..., None], mask_token.to(patches.dtype), patches)
        places = self._positions(grid)
        if vit.no_embed_class:
            patch_positions, class_token = places, vit.cls_token
        else:
            patch_positions = places[:, 1:]
            class_token = vit.cls_token + places[:, :1]
        patches = patches + patch_positions
        if keep is not None:
            patches = patches.gather(1, keep[..., None].expand(-1, -1, self.width))
        first = class_token if prefix is None else torch.cat([class_token, prefix[None]], dim=1)
        tokens = torch.cat([first.expand(len(patches), -1, -1), patches], dim=1)
        embedded: Tensor = vit.norm_pre(vit.pos_drop(tokens))
        return embedded

    def _grid_of(self, images: Tensor) -> tuple[int, int]:
        """Return rows and columns of patches."""
        height, width = images.shape[-2:]
        if height % self.patch_px or width % self.patch_px:
            raise BackboneError(
                f"images of {height} x {width} px cannot be cut into patches of {self.patch_px} px;"
                f" show whole multiples of {self.patch_px} px, small crops too, or set patch_px"
            )
        return height // self.patch_px, width // self.patch_px

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Return position embeddings for a grid of patches, resampled where it is another."""
        own: Tensor = self.vit.pos_embed
        if grid == self.grid:
            return own
        prefix = 0 if self.vit.no_embed_class else 1
        resampled: Tensor = resample_abs_pos_embed(own, grid, self.grid, num_prefix_tokens=prefix)
        return resampled

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, width)."""
        tokens = self.encode_tokens(images)
        return tokens[:, 0] if self.pool == "class" else tokens[:, 1:].mean(dim=1)

    def stages(self) -> list[nn.Module]:
        """Return the stem (patches, tokens, positions) and each block, the last with the norm."""
        return stages_of(self.vit)


def _finish(vit: VisionTransformer, pool: str) -> VitBackbone:
    # timm sets the final norm aside where it pools by mean; both readings here want it.
    vit.fc_norm = nn.Identity()
    return VitBackbone(vit, pool)


class SmallVit(BackboneConfig):
    """A ViT of chosen size, by default 0.8 M weights and 8 x 8 patches."""

    label: ClassVar[str] = "small ViT"
    has_tokens: ClassVar[bool] = True
    family: Literal["small_vit"] = "small_vit"
    patch_px: int | None = Field(None, ge=2, description="side; None: an eighth of the image's")
    embed_width: int = Field(128, ge=16, multiple_of=8)
    depth: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    pool: Literal["mean", "class"] = "mean"

    def build(self, image_px: int) -> VitBackbone:
        """Return a randomly initialised small ViT."""
        patch_px = self.patch_px or max(image_px // GRID, 2)
        _check_patches(image_px, patch_px)
        plain_attention_on_cpu()
        vit = VisionTransformer(
            img_size=image_px,
            patch_size=patch_px,
            embed_dim=self.embed_width,
            depth=self.depth,
            num_heads=self.heads,
            num_classes=0,
            global_pool="token",
        )
        return _finish(vit, self.pool)


class TimmVit(BackboneConfig):
    """A ViT by its timm name, at any image size that its patches divide."""

    label: ClassVar[str] = "timm ViT"
    has_tokens: ClassVar[bool] = True
    family: Literal["vit"] = "vit"
    model: str = "vit_tiny_patch16_224"
    patch_px: int | None = Field(None, ge=2, description="overrides the model's own patch side")
    drop_path: float = Field(0.0, ge=0, lt=1)
    pool: Literal["mean", "class"] = "mean"

    def build(self, image_px: int) -> VitBackbone:
        """Return a randomly initialised timm ViT for ``image_px``."""
        found = timm_class(self.model)
        if not issubclass(found, VisionTransformer):
            raise BackboneError(
                f"backbone vit: {self.model!r} is a {found.__name__}, not a VisionTransformer; "
                "use the family 'cnn' for other timm models"
            )
        size = {"img_size": image_px}
        if self.patch_px is not None:
            _check_patches(image_px, self.patch_px)
            size["patch_size"] = self.patch_px
        vit = make_net(self.model, self.drop_path, size)
        assert isinstance(vit, VisionTransformer)
        _check_patches(image_px, vit.patch_embed.patch_size[0])
        return _finish(vit, self.pool)


def _check_patches(image_px: int, patch_px: int) -> None:
    if image_px % patch_px:
        raise BackboneError(
            f"an image of {image_px} px cannot be cut into patches of {patch_px} px; "
            f"choose image_px as a multiple of {patch_px}, or another patch_px"
        )
