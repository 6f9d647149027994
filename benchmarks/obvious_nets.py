"""SimCLR and MAE as lightly's parts are usually put together: nets that turn views into a loss."""

from __future__ import annotations

import torch
from lightly.loss import NTXentLoss
from lightly.models import utils
from lightly.models.modules import MaskedVisionTransformerTIMM
from lightly.models.modules.heads import SimCLRProjectionHead
from lightly.models.modules.masked_vision_transformer_decoder_timm import (
    MaskedVisionTransformerDecoderTIMM,
)
from timm.layers import set_fused_attn
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmarks.cases import Case
from melssl.backbones.vit import SmallVit
from melssl.frame import Frame
from melssl.methods.mae import MaeConfig
from melssl.methods.simclr import SimClrConfig


def loss_of(case: Case, image_px: int) -> nn.Module:
    """Return the net of a case; it has the same parts and sizes as ours."""
    spec = case.spec(image_px)
    if isinstance(spec.method, SimClrConfig):
        return _SimClr(spec.backbone.build(image_px), spec.method)
    if isinstance(spec.method, MaeConfig) and isinstance(spec.backbone, SmallVit):
        return _Mae(spec.backbone, spec.method, image_px)
    raise ValueError(f"{case.name}: the obvious way knows SimCLR, and MAE on small_vit")


class _SimClr(nn.Module):
    """Each view passes the net by itself."""

    def __init__(self, backbone: nn.Module, config: SimClrConfig) -> None:
        super().__init__()
        self.backbone = backbone
        width = int(getattr(backbone, "width"))  # noqa: B009  # Module's attributes are untyped
        self.head = SimCLRProjectionHead(width, config.hidden_width, config.projection_width)
        self.criterion = NTXentLoss(config.temperature)

    def forward(self, views: list[Tensor]) -> Tensor:
        first, second = (self.head(self.backbone(view)) for view in views)
        loss: Tensor = self.criterion(first, second)
        return loss


class _Mae(nn.Module):
    """Attention as timm chooses it."""

    def __init__(self, backbone: SmallVit, config: MaeConfig, image_px: int) -> None:
        super().__init__()
        self.patch_px, self.mask_ratio = backbone.make(Frame(image_px)).patch_px, config.mask_ratio
        set_fused_attn(enable=True)  # timm's default, which building ours has changed
        vit = VisionTransformer(
            img_size=image_px,
            patch_size=self.patch_px,
            embed_dim=backbone.embed_width,
            depth=backbone.depth,
            num_heads=backbone.heads,
            num_classes=0,
        )
        self.encoder = MaskedVisionTransformerTIMM(vit=vit)
        self.embed = nn.Linear(backbone.embed_width, config.decoder_width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches,
            embed_dim=config.decoder_width,
            depth=config.decoder_depth,
            num_heads=config.decoder_heads,
        )
        self.predict = nn.Linear(config.decoder_width, 3 * self.patch_px**2)
        self.criterion = nn.MSELoss()

    def forward(self, views: list[Tensor]) -> Tensor:
        images = views[0]
        size = (len(images), self.encoder.sequence_length)
        keep, mask = utils.random_token_mask(size, mask_ratio=self.mask_ratio)
        encoded = self.embed(self.encoder.encode(images, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, size)
        tokens = utils.set_at_index(tokens, keep, encoded.type_as(tokens))
        predicted = self.predict(utils.get_at_index(self.decoder(tokens), mask))
        patches = utils.patchify(images, self.patch_px)
        target = utils.get_at_index(patches, mask - 1)  # the class token is no patch
        target = torch.nn.functional.layer_norm(target, target.shape[-1:], eps=1e-6)
        loss: Tensor = self.criterion(predicted, target)
        return loss
