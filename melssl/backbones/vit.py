"""Vision transformers: any timm ViT, and a small one for small images, volumes and clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import BackboneConfig, TokenBackbone
from melssl.backbones.timm_nets import make_net, plain_attention_on_cpu, stages_of, timm_class
from melssl.errors import BackboneError
from melssl.frame import ALL_MEDIA, Frame, Kind
from melssl.settings import Later

GRID = 8


class VitBackbone(TokenBackbone):
    """A timm ``VisionTransformer`` whose embedding is the mean patch token or the class token."""

    def __init__(self, vit: VisionTransformer, pool: str) -> None:
        super().__init__()
        plain = vit.cls_token is not None and vit.pos_embed is not None
        kinds = (PatchEmbed, DeepPatches)
        if not plain or vit.num_prefix_tokens != 1 or not isinstance(vit.patch_embed, kinds):
            raise BackboneError(
                "expected a ViT of plain patches with a class token, absolute positions and no "
                "registers; use for example vit_tiny_patch16_224, or the family 'cnn' for this one"
            )
        self.vit = vit
        self.pool = pool
        self.width = self.map_width = vit.embed_dim
        vit.patch_embed.strict_img_size = False  # small crops have a smaller grid
        self.patch = tuple(vit.patch_embed.patch_size)
        self.grid = tuple(vit.patch_embed.grid_size)

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
        grid = self._grid_of(images)
        tokens, maps = self._embed(images), []
        for index, block in enumerate(self.vit.blocks):
            tokens = block(tokens)
            last = index == len(self.vit.blocks) - 1
            patches = (self.vit.norm(tokens) if last else tokens)[:, 1:]
            maps.append(patches.transpose(1, 2).reshape(len(tokens), -1, *grid))
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
        tokens = torch.cat([first.expand(patches.shape[0], -1, -1), patches], dim=1)
        embedded: Tensor = vit.norm_pre(vit.pos_drop(tokens))
        return embedded

    def _grid_of(self, images: Tensor) -> tuple[int, ...]:
        """Return how many patches there are along each side."""
        sides = images.shape[2:]
        if len(sides) != len(self.patch) or any(
            s % p for s, p in zip(sides, self.patch, strict=True)
        ):
            raise BackboneError(
                f"images of {_times(sides)} px cannot be cut into patches of {_times(self.patch)}"
                f" px; show whole multiples of {self.patch_px} px, small crops too, or set patch_px"
            )
        return tuple(side // patch for side, patch in zip(sides, self.patch, strict=True))

    def _positions(self, grid: tuple[int, ...]) -> Tensor:
        """Return position embeddings for a grid of patches, resampled where it is another."""
        own: Tensor = self.vit.pos_embed
        if grid == self.grid:
            return own
        prefix = 0 if self.vit.no_embed_class else 1
        if len(grid) == 2:
            new, old = list(grid), list(self.grid)
            resampled: Tensor = resample_abs_pos_embed(own, new, old, num_prefix_tokens=prefix)
            return resampled
        places = own[:, prefix:].transpose(1, 2).reshape(1, -1, *self.grid)
        places = F.interpolate(places, grid, mode="trilinear").flatten(2).transpose(1, 2)
        return torch.cat([own[:, :prefix], places], dim=1)

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


class DeepPatches(nn.Module):
    """Patches of a volume or a clip: one strided convolution to tokens (B, N, width)."""

    def __init__(
        self,
        img_size: Frame,
        patch_size: tuple[int, int, int],
        in_chans: int,
        embed_dim: int,
        bias: bool,
        dynamic_img_pad: bool,  # what timm asks of each of its own; here nothing is padded
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.grid_size = tuple(s // p for s, p in zip(img_size.sides, patch_size, strict=True))
        self.num_patches = math.prod(self.grid_size)
        self.proj = nn.Conv3d(
            in_chans, embed_dim, patch_size, patch_size, bias=bias, device=device, dtype=dtype
        )

    def feat_ratio(self) -> int:
        """Return the side of a patch in the plane, which timm asks for."""
        return self.patch_size[-1]

    def forward(self, volumes: Tensor) -> Tensor:
        """Return the tokens of the patches, the slices one after another."""
        tokens: Tensor = self.proj(volumes).flatten(2).transpose(1, 2)
        return tokens


class SmallVit(BackboneConfig):
    """A ViT of chosen size, by default 0.8 M weights and 8 x 8 patches, or 8 x 8 x 8."""

    label: ClassVar[str] = "small ViT"
    has_tokens: ClassVar[bool] = True
    media: ClassVar[frozenset[Kind]] = ALL_MEDIA
    family: Literal["small_vit"] = "small_vit"
    patch_px: int | None = Field(None, ge=2, description="side; None: an eighth of the image's")
    embed_width: int = Field(128, ge=16, multiple_of=8)
    depth: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    pool: Literal["mean", "class"] = "mean"
    patch_depth: Annotated[int | None, Later()] = Field(
        None, ge=1, description="slices or frames of a patch; None: an eighth of them"
    )

    def make(self, frame: Frame) -> VitBackbone:
        """Return a randomly initialised small ViT."""
        patch_px = self.patch_px or max(frame.side_px // GRID, 2)
        _check_patches(frame.side_px, patch_px)
        size: dict[str, Any] = {"img_size": frame.side_px, "patch_size": patch_px}
        if frame.depth is not None:
            deep = self.patch_depth or max(frame.depth // GRID, 1)
            _check_patches(frame.depth, deep, "slices or frames", "patch_depth")
            patch = (deep, patch_px, patch_px)
            size = {"img_size": frame, "patch_size": patch, "embed_layer": DeepPatches}
        plain_attention_on_cpu()
        vit = VisionTransformer(
            **size,
            in_chans=frame.channels,
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

    def make(self, frame: Frame) -> VitBackbone:
        """Return a randomly initialised timm ViT for images of that side."""
        image_px = frame.side_px
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


def _check_patches(side: int, patch: int, unit: str = "px", setting: str = "patch_px") -> None:
    if side % patch:
        raise BackboneError(
            f"an image of {side} {unit} cannot be cut into patches of {patch} {unit}; "
            f"show a multiple of {patch} (image_px, depth), or choose another {setting}"
        )


def _times(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
