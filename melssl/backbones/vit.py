"""Vision transformers: any timm ViT, and a small one for small images on a CPU."""

from __future__ import annotations

from typing import ClassVar, Literal

import timm
import torch
from pydantic import Field
from timm.layers import resample_abs_pos_embed, set_fused_attn
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from melssl.backbones.base import BackboneConfig, TokenBackbone
from melssl.errors import BackboneError

GRID = 8


class VitBackbone(TokenBackbone):
    """A timm ``VisionTransformer`` whose embedding is the mean patch token or the class token."""

    def __init__(self, vit: VisionTransformer, pool: str) -> None:
        super().__init__()
        if vit.cls_token is None or vit.pos_embed is None or vit.num_prefix_tokens != 1:
            raise BackboneError(
                "expected a ViT with a class token, absolute positions and no registers; "
                "choose another timm model, for example vit_tiny_patch16_224"
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
    ) -> Tensor:
        """Return normalised tokens (B, 1 + K, width), the class token first."""
        tokens = self._embed(images, keep, hidden, mask_token)
        encoded: Tensor = self.vit.norm(self.vit.blocks(tokens))
        return encoded

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the patch tokens after every block as maps, the last ones normalised."""
        rows, columns = (side // self.patch_px for side in images.shape[-2:])
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
    ) -> Tensor:
        """Return what the first block reads, (B, 1 + K, width)."""
        vit = self.vit
        patches = vit.patch_embed(images)
        if hidden is not None and mask_token is not None:
            patches = torch.where(hidden[..., None], mask_token.to(patches.dtype), patches)
        places = self._positions((images.shape[-2], images.shape[-1]))
        if vit.no_embed_class:
            patch_positions, class_token = places, vit.cls_token
        else:
            patch_positions = places[:, 1:]
            class_token = vit.cls_token + places[:, :1]
        patches = patches + patch_positions
        if keep is not None:
            patches = patches.gather(1, keep[..., None].expand(-1, -1, self.width))
        tokens = torch.cat([class_token.expand(len(patches), -1, -1), patches], dim=1)
        embedded: Tensor = vit.norm_pre(vit.pos_drop(tokens))
        return embedded

    def _positions(self, size_px: tuple[int, int]) -> Tensor:
        """Return position embeddings for images of ``size_px``, resampled where they differ."""
        grid = (size_px[0] // self.patch_px, size_px[1] // self.patch_px)
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
        """Return the patch embedding and each block."""
        return [self.vit.patch_embed, *self.vit.blocks]


def _finish(vit: VisionTransformer, pool: str) -> VitBackbone:
    # timm sets the final norm aside where it pools by mean; both readings here want it.
    vit.fc_norm = nn.Identity()
    return VitBackbone(vit, pool)


def _plain_attention_on_cpu() -> None:
    # The fused kernel's backward is up to five times slower than plain products on a CPU.
    set_fused_attn(enable=torch.cuda.is_available())


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
        _plain_attention_on_cpu()
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
        _plain_attention_on_cpu()
        size: dict[str, int] = {"img_size": image_px}
        if self.patch_px is not None:
            _check_patches(image_px, self.patch_px)
            size["patch_size"] = self.patch_px
        vit = timm.create_model(self.model, num_classes=0, drop_path_rate=self.drop_path, **size)
        if not isinstance(vit, VisionTransformer):
            raise BackboneError(
                f"backbone vit: {self.model!r} is a {type(vit).__name__}, not a VisionTransformer; "
                "use the family 'cnn' for other timm models"
            )
        _check_patches(image_px, vit.patch_embed.patch_size[0])
        return _finish(vit, self.pool)


def _check_patches(image_px: int, patch_px: int) -> None:
    if image_px % patch_px:
        raise BackboneError(
            f"an image of {image_px} px cannot be cut into patches of {patch_px} px; "
            f"choose image_px as a multiple of {patch_px}, or another patch_px"
        )
