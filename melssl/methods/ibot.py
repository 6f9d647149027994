"""iBOT: a teacher's prototypes for the image, and for each patch that the student may not see."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.methods.base import Batch, PoolFacts, full_precision, with_tokens
from melssl.methods.distillation import Centre, Distillation, DistillationConfig
from melssl.methods.masking import MaskShape, draw_masks
from melssl.methods.multi_crop import LARGE, between_views
from melssl.methods.target import Target, annealed
from melssl.space import Dimension
from melssl.training.trainable import Progress, StepResult


class IBotConfig(DistillationConfig):
    """Settings of iBOT (Zhou et al. 2021, arXiv 2111.07832).

    The paper has 8,192 prototypes, a momentum of .996 and ten small views; its teacher's
    temperature rises to .07, at which some hundred steps lead to one that finds all alike.
    """

    label: ClassVar[str] = "iBOT"
    name: Literal["ibot"] = "ibot"
    small_views: int = Field(0, ge=0, description="small views, which only the student gets")
    momentum: float = Field(0.99, ge=0, le=1, description="of the teacher at first; 1 at last")
    centre_momentum: float = Field(0.9, ge=0, lt=1)
    mask_ratio: float = Field(0.3, gt=0, lt=1, description="share of patches hidden, on average")
    mask_spread: float = Field(0.2, ge=0, lt=1, description="each view's ratio is -+ this")
    mask_shape: MaskShape = Field("block", description="what is hidden together")
    whole_share: float = Field(0.5, ge=0, lt=1, description="share of views with nothing hidden")
    patch_weight: float = Field(1.0, gt=0, description="of the patch loss; the image's has 1")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="teacher_temperature", low=0.02, high=0.08, log=True),
            Dimension(name="momentum", low=0.9, high=0.999),
            Dimension(name="mask_ratio", low=0.2, high=0.6),
            Dimension(name="patch_weight", low=0.3, high=3, log=True),
        )


class IBot(Distillation):
    """Cross-entropy between teacher and student over prototypes, of images and hidden patches.

    ``L = mean_{g, v != g} H(t_g, s_v) + w mean_v mean_{i in M_v} H(t_vi, s_vi)``: class tokens
    across views, hidden patches within a view, ``H(t, s) = -sum_k softmax((t - c) / T_t)_k log
    softmax(s / T_s)_k``, centres ``c`` apart for images and patches, one head for both (Zhou et
    al. 2021, section 3). A view with nothing hidden adds zero to the second mean.
    """

    Config = IBotConfig
    needs_tokens = True

    def __init__(self, config: IBotConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        backbone = with_tokens("ibot", backbone)
        self.backbone: TokenBackbone = backbone
        self.config = config
        self.mask_token = nn.Parameter(torch.zeros(backbone.width))
        self.teacher, self.teacher_head = Target(backbone), Target(self.head)
        self.image_centre = Centre(self.n_prototypes, config.centre_momentum)
        self.patch_centre = Centre(self.n_prototypes, config.centre_momentum)

    def after_step(self, progress: Progress) -> None:
        """Move the teacher, ever more slowly, and the centres."""
        momentum = annealed(self.config.momentum, 1.0, progress.fraction)
        self.teacher.follow(self.backbone, momentum)
        self.teacher_head.follow(self.head, momentum)
        self.image_centre.follow()
        self.patch_centre.follow()

    def masks(self, n_views: int, rng: torch.Generator) -> Tensor:
        """Draw masks (n, N) bool of a ratio of their own each; ``whole_share`` of them empty."""
        config, grid = self.config, self.backbone.grid
        n_patches = grid[0] * grid[1]
        draw, whole = torch.rand(2, n_views, generator=rng)
        ratio = config.mask_ratio + (2 * draw - 1) * config.mask_spread
        counts = (ratio * n_patches).round().long().clamp(1, n_patches - 1)
        return draw_masks(config.mask_shape, grid, counts * (whole >= config.whole_share), rng)

    def step(self, batch: Batch) -> StepResult:
        """Return the sum of both losses; the large views pass each network together."""
        images = torch.cat(batch.views[:LARGE])
        drawn = self.masks(LARGE * batch.n_drawn, batch.rng).view(LARGE, batch.n_drawn, -1)
        mask = batch.mine(drawn, dim=1).flatten(0, 1).to(images.device)
        tokens = self.backbone.encode_tokens(images, hidden=mask, mask_token=self.mask_token)
        shown = [tokens[:, 0]]
        if len(batch.views) > LARGE:
            shown.append(self.backbone.encode_tokens(torch.cat(batch.views[LARGE:]))[:, 0])
        n_shown = len(batch.views) * len(batch.place)
        scores = self.head(torch.cat([*shown, tokens[:, 1:][mask]]))
        students, patches = scores[:n_shown], scores[n_shown:]
        image_aim, patch_aim = self._teach(images, mask)
        with full_precision(tokens):
            aim = image_aim.view(LARGE, 1, len(batch.place), -1)
            said_of = students.view(1, len(batch.views), len(batch.place), -1)
            image_loss = between_views(self.entropy(aim, said_of))
            patch_loss = per_view(self.entropy(patch_aim, patches), mask)
            said = (image_aim / self.teacher_temperature).softmax(dim=-1)
        parts = {
            "image_loss": image_loss.detach(),
            "patch_loss": patch_loss.detach(),
            "mask_ratio": mask.float().mean(),
            "teacher_entropy": torch.special.entr(said).sum(dim=-1).mean(),
        }
        return StepResult(loss=image_loss + self.config.patch_weight * patch_loss, parts=parts)

    @torch.no_grad()
    def _teach(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teacher's centred scores of images (V B, K) and of hidden patches (M, K)."""
        network = self.teacher.net
        assert isinstance(network, TokenBackbone)
        tokens = network.encode_tokens(images)
        scores = self.teacher_head(torch.cat([tokens[:, 0], tokens[:, 1:][mask]]))
        n = len(images)
        return self.image_centre(scores[:n]), self.patch_centre(scores[n:])


def per_view(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over views of each one's mean of ``values`` (M,) at the True of ``mask``."""
    share = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (values * share[mask]).sum() / len(mask)
