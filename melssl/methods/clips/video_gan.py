"""Video GAN: is this clip real, or made by a generator that learns to pass for it?"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.frame import CLIPS
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PoolFacts,
    full_precision,
    several_processes,
)
from melssl.methods.clips.pieces import check_depth
from melssl.methods.clips.video_generator import Dream, VideoGenerator
from melssl.space import Dimension
from melssl.training.optim import Rate
from melssl.training.trainable import StepResult


class VideoGanConfig(MethodConfig):
    """Settings of the video GAN (Vondrick et al. 2016, arXiv 1609.02612)."""

    label: ClassVar[str] = "video GAN"
    name: Literal["video_gan"] = "video_gan"
    noise_width: int = Field(100, ge=2, description="numbers that a clip is made from")
    generator_width: int = Field(
        8,
        ge=2,
        description="channels of the generator's last layer but one; doubled by each before",
    )
    mask_weight: float = Field(0.1, ge=0, description="price of calling all of a clip moving")
    generator_rate: float = Field(1.0, gt=0, description="its learning rate, of the schedule's")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="generator_rate", low=0.2, high=5, log=True),
            Dimension(name="mask_weight", low=0.01, high=1, log=True),
        )


class VideoGan(Method):
    """The discriminator, whose body is the backbone, against a generator of two streams.

    ``L = E[-log D(x)] + E[-log(1 - D(G(z)))]`` moves the discriminator alone, ``E[-log D(G(z))] +
    w E[m(z)]`` the generator alone (Goodfellow et al. 2014, the form that does not saturate;
    Vondrick et al. 2016, section 3.3, for the mask m). Both gradients come from one step: where the
    generator is judged, the discriminator's weights are constants. Made clips leave no trace in the
    running statistics of its norms, which are those of real ones when the backbone is transferred.
    """

    Config = VideoGanConfig
    media = CLIPS
    low: Tensor
    high: Tensor

    def __init__(self, config: VideoGanConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        check_depth(config.name, facts.frame.depth, 2, "show more frames")
        self.generator = VideoGenerator(facts.frame, config.noise_width, config.generator_width)
        self.head = nn.Linear(backbone.width, 1)
        channels = facts.frame.channels
        self.register_buffer("low", torch.full((channels,), float("inf")))
        self.register_buffer("high", torch.full((channels,), float("-inf")))

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return one view of geometry only: how clips look is what the generator learns."""
        return (base.replace(jitter=0, grayscale=0, solarise=0, blur=0, erase=0),)

    def rate(self, name: str) -> Rate:
        """Return the generator's own rate for its weights."""
        return Rate(self.config.generator_rate) if name.startswith("generator.") else Rate()

    def step(self, batch: Batch) -> StepResult:
        """Return both losses of one batch, added up."""
        (real,) = batch.views
        self._widen(real)
        size = (batch.n_drawn, self.config.noise_width)
        noise = batch.mine(torch.randn(size, generator=batch.rng)).to(real)
        made, mask = self.made(noise)
        of_real = self.head(self.backbone(real))
        of_made = self._scores(made.detach(), learns=True)
        fooled = self._scores(made, learns=False)
        with full_precision(of_real):
            judged = F.softplus(-of_real.float()).mean() + F.softplus(of_made.float()).mean()
            passed = F.softplus(-fooled.float()).mean()
            loss = judged + passed + self.config.mask_weight * mask.float().mean()
        right = torch.cat([of_real > 0, of_made <= 0]).float().mean()
        parts = {"discriminator": judged, "generator": passed, "moving": mask.float().mean()}
        parts = {name: part.detach() for name, part in parts.items()}
        return StepResult(loss=loss, parts=parts | {"told_apart": right})

    def made(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return clips made of noise (B, Z), on the scale of real ones, and their masks."""
        dream: Dream = self.generator(noise)
        spans = (self.high - self.low)[:, None, None, None]
        return self.low[:, None, None, None] + spans * (dream.clips + 1) / 2, dream.mask

    @torch.no_grad()
    def _widen(self, real: Tensor) -> None:
        """Keep the range of each channel seen so far: what the generator's -1..1 stands for."""
        low, high = real.amin(dim=(0, 2, 3, 4)), real.amax(dim=(0, 2, 3, 4))
        if several_processes():  # the range of what all of them see
            torch.distributed.all_reduce(low, torch.distributed.ReduceOp.MIN)
            torch.distributed.all_reduce(high, torch.distributed.ReduceOp.MAX)
        self.low.copy_(torch.minimum(self.low, low))
        self.high.copy_(torch.maximum(self.high, high))

    def _scores(self, clips: Tensor, *, learns: bool) -> Tensor:
        """Return scores of made clips; norms keep nothing of them, nor weights if not to learn."""
        weights = {
            name: weight if learns else weight.detach()
            for name, weight in self.backbone.named_parameters()
        }
        passing = {name: buffer.clone() for name, buffer in self.backbone.named_buffers()}
        embedded: Tensor = functional_call(self.backbone, weights | passing, (clips,))
        head = (self.head.weight, self.head.bias)
        return F.linear(embedded, *(head if learns else (part.detach() for part in head)))
