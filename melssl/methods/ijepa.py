"""I-JEPA: from a context of patches, predict what a teacher makes of blocks that are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.data.views import Range, Shares, ViewRecipe
from melssl.errors import BackboneError
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts, full_precision, with_tokens
from melssl.methods.masking import placed, places, rectangles, sized
from melssl.methods.target import Target, annealed
from melssl.space import Dimension
from melssl.training.trainable import Progress, StepResult

LEAST_CONTEXT = 8  # an image whose context is less than the grid's eighth part is drawn again
Small = Annotated[float, Field(gt=0, le=0.3)]


class IJepaConfig(MethodConfig):
    """Settings of I-JEPA (Assran et al. 2023, arXiv 2301.08243)."""

    label: ClassVar[str] = "I-JEPA"
    name: Literal["i_jepa"] = "i_jepa"
    momentum: float = Field(0.99, ge=0, le=1, description="of the teacher; ends at 1")
    n_targets: int = Field(4, ge=1, le=8, description="blocks to predict")
    target_scale: tuple[Small, Small] = Field(
        (0.15, 0.2), description="area of a target, share of the grid"
    )
    target_aspect: Range = Field((0.75, 1.5), description="height over width of a target")
    context_scale: Shares = Field((0.85, 1), description="area of the context before targets go")
    decoder_width: int = Field(64, ge=16, multiple_of=8, description="of the predictor")
    decoder_depth: int = Field(2, ge=1, description="blocks of the predictor")
    decoder_heads: int = Field(4, ge=1, description="of the predictor")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="momentum", low=0.9, high=0.999),
            Dimension(name="n_targets", low=1, high=8, whole=True),
        )


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Places in the grid: ``context`` (B, K), ``targets`` (B, M, T); no place in both."""

    context: Tensor
    targets: Tensor


class IJepa(Method):
    """Smooth L1 between predicted and true features of the target blocks.

    ``L = mean_m mean_{i in m} l(P(E(x_context), m)_i, n(E'(x))_i)``, ``n`` a layer norm without
    weights, ``E'`` the moving average of ``E``, ``l`` smooth L1 at 1 (Assran et al. 2023, section
    3, with the loss of their experiments).
    """

    Config = IJepaConfig
    needs_tokens = True

    def __init__(self, config: IJepaConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        backbone = with_tokens("i_jepa", backbone)
        self.backbone: TokenBackbone = backbone
        if min(backbone.grid) < 2:
            raise BackboneError(
                f"i_jepa: expected a grid of 2 x 2 patches or more, got {backbone.grid}; "
                "choose a smaller patch_px"
            )
        self.config = config
        self.teacher = Target(backbone)
        self.predictor = IJEPAPredictorTIMM(
            num_patches=backbone.grid[0] * backbone.grid[1],
            depth=config.decoder_depth,
            mlp_dim=backbone.width,
            predictor_embed_dim=config.decoder_width,
            num_heads=config.decoder_heads,
        )

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return one view that is cropped and else left alone."""
        return (
            base.replace(
                horizontal_flip=0,
                vertical_flip=0,
                quarter_turns=False,
                blur=0,
                jitter=0,
                grayscale=0,
                solarise=0,
                erase=0,
            ),
        )

    def after_step(self, progress: Progress) -> None:
        """Move the teacher."""
        momentum = annealed(self.config.momentum, 1.0, progress.fraction)
        self.teacher.follow(self.backbone, momentum)

    def step(self, batch: Batch) -> StepResult:
        """Return the error of the predicted features."""
        (images,) = batch.views
        blocks = draw_blocks(self.config, batch.n_drawn, self.backbone.grid, batch.rng)
        context = batch.mine(blocks.context).to(images.device)
        targets = batch.mine(blocks.targets).to(images.device)
        seen = self.backbone.encode_tokens(images, context)[:, 1:]
        each = list(targets.unbind(1))
        # one predictor pass for all targets: rows come back ordered by target, then by image
        predicted = self.predictor(seen, context, each).view(len(each), *targets[:, 0].shape, -1)
        with full_precision(predicted):
            aim = self.target(images).gather(
                1, targets.flatten(1)[..., None].expand(-1, -1, self.backbone.width)
            )
            aim = aim.view(*targets.shape, -1).transpose(0, 1)
            loss = F.smooth_l1_loss(predicted.float(), aim)
        ratio = torch.tensor(context.shape[1] / self.predictor.decoder.num_patches)
        return StepResult(loss=loss, parts={"context_ratio": ratio})

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        """Return the teacher's patch features (B, N, width), each at mean 0 and variance 1."""
        network = self.teacher.net
        assert isinstance(network, TokenBackbone)
        features = network.encode_tokens(images)[:, 1:].float()
        return F.layer_norm(features, features.shape[-1:])


def draw_blocks(
    config: IJepaConfig, n_samples: int, grid: tuple[int, ...], rng: torch.Generator
) -> Blocks:
    """Draw blocks: their sizes once for the batch, their places for each image.

    The context is a block without the targets. All images keep as many patches of it as the one
    that has fewest: the others lose some at random, so that no side of the image is seen less.
    """
    n_cells = grid[0] * grid[1]
    share, shape, extent = torch.rand(3, 1, generator=rng)
    area = _between(config.target_scale, share) * n_cells
    height, width = sized(area, [_between(config.target_aspect, shape)], grid)
    height, width = height.clamp(max=grid[0] - 1), width.clamp(max=grid[1] - 1)
    around = sized(_between(config.context_scale, extent) * n_cells, [torch.ones(1)], grid)
    targets = torch.zeros(n_samples, config.n_targets, n_cells, dtype=torch.bool)
    context = torch.zeros(n_samples, n_cells, dtype=torch.bool)
    least = max(n_cells // LEAST_CONTEXT, 1)
    while (poor := (context.sum(dim=1) < least).nonzero()[:, 0]).numel():
        n = len(poor)
        many = n * config.n_targets
        boxes = placed([height.expand(many), width.expand(many)], grid, rng)
        targets[poor] = rectangles(boxes, grid).view(n, config.n_targets, n_cells)
        frame = rectangles(placed([side.expand(n) for side in around], grid, rng), grid)
        context[poor] = frame & ~targets[poor].any(dim=1)
    order = torch.where(context, torch.rand(n_samples, n_cells, generator=rng), 2.0).argsort(dim=1)
    kept = order[:, : int(context.sum(dim=1).min())].sort(dim=1).values
    missing = places(targets.flatten(0, 1)).view(n_samples, config.n_targets, -1)
    return Blocks(context=kept, targets=missing)


def _between(bounds: tuple[float, float], draw: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * draw
