"""LSTM composite: what was seen, backwards, and what comes next, both from one embedding."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.frame import CLIPS
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PoolFacts,
    Reconstruction,
    full_precision,
)
from melssl.methods.clips.pieces import check_depth, whole_frames
from melssl.space import Dimension
from melssl.training.trainable import StepResult


class VideoLstmConfig(MethodConfig):
    """Settings of the composite LSTM model (Srivastava et al. 2015, arXiv 1502.04681)."""

    label: ClassVar[str] = "LSTM composite"
    name: Literal["video_lstm"] = "video_lstm"
    seen_share: float = Field(0.5, gt=0, lt=1, description="first share of the frames: the past")
    target_px: int = Field(16, ge=2, description="side of the frames that are drawn")
    decoder_width: int = Field(256, ge=8, description="state of each decoder")
    past_weight: float = Field(1.0, ge=0, description="of the past, drawn backwards")
    future_weight: float = Field(1.0, ge=0, description="of the future")
    conditional: bool = Field(
        False, description="a decoder is shown the true frame before the one that it draws"
    )

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="seen_share", low=0.3, high=0.8),
            Dimension(name="future_weight", low=0.1, high=10, log=True),
        )


class VideoLstm(Method):
    """Squared error of two LSTM decoders that start from the embedding of the past.

    ``L = w_p 1/|P| sum_{t in P} ||d_p(T_p - t) - x_t||^2 / n + w_f 1/|F| sum_{t in F} ||d_f(t) -
    x_t||^2 / n`` over frames of n numbers, drawn small: the past P last frame first, then the
    future F (Srivastava et al. 2015, section 2.3). The state that a decoder starts from is a linear
    map of the embedding, so that any backbone may encode; with ``frame_lstm`` it is an LSTM, too.
    """

    Config = VideoLstmConfig
    media = CLIPS

    def __init__(self, config: VideoLstmConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        depth = check_depth(config.name, facts.frame.depth, 2, "show more frames")
        self.n_seen = min(max(round(config.seen_share * depth), 1), depth - 1)
        self.target_px = min(config.target_px, facts.frame.side_px)
        n_values = facts.frame.channels * self.target_px**2
        self.decoders = nn.ModuleDict(
            {
                name: FrameDecoder(backbone.width, config.decoder_width, n_values)
                for name, weight in self._weights.items()
                if weight
            }
        )

    @property
    def _weights(self) -> dict[str, float]:
        return {"past": self.config.past_weight, "future": self.config.future_weight}

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return one view of geometry only: how frames look is what is drawn."""
        plain = base.replace(jitter=0, grayscale=0, solarise=0, blur=0)
        return (whole_frames(plain).replace(depth_flip=0),)

    def step(self, batch: Batch) -> StepResult:
        """Return the error of both decoders."""
        (clips,) = batch.views
        embedded = self.backbone(clips[:, :, : self.n_seen])
        targets, parts = self.targets(clips), {}
        for name, decoder in self.decoders.items():
            shown = targets[name] if self.config.conditional else None
            drawn = decoder(embedded, targets[name].shape[1], shown)
            with full_precision(drawn):
                parts[name] = (drawn.float() - targets[name]).square().mean()
        weighted = [self._weights[name] * part for name, part in parts.items()]
        return StepResult(
            loss=torch.stack(weighted).sum(),
            parts={name: part.detach() for name, part in parts.items()},
        )

    def targets(self, clips: Tensor) -> dict[str, Tensor]:
        """Return the frames to be drawn, (B, T, n): the past backwards, and the future."""
        with full_precision(clips):
            frames = clips.float().transpose(1, 2)
            small = F.adaptive_avg_pool2d(frames.flatten(0, 1), self.target_px)
            small = small.view(*frames.shape[:2], -1)
        return {"past": small[:, : self.n_seen].flip(1), "future": small[:, self.n_seen :]}

    @torch.no_grad()
    def drawn(self, clips: Tensor) -> dict[str, Tensor]:
        """Return what the decoders draw of clips without being shown more: (B, C, T, t, t)."""
        embedded = self.backbone(clips[:, :, : self.n_seen])
        lengths = {"past": self.n_seen, "future": clips.shape[2] - self.n_seen}
        follows, drawn = self.config.conditional, {}
        for name, decoder in self.decoders.items():
            size = (-1, lengths[name], clips.shape[1], self.target_px, self.target_px)
            drawn[name] = decoder(embedded, lengths[name], follows=follows).view(size)
        return {name: frames.transpose(1, 2) for name, frames in drawn.items()}

    def reconstruct(self, batch: Batch) -> Reconstruction | None:
        """Return the past, and behind it the future as it is drawn, as large as the frames."""
        (clips,) = batch.views
        if "future" not in self.decoders:
            return None
        side, n_seen = clips.shape[-1], self.n_seen
        future = self.drawn(clips)["future"].transpose(1, 2)
        n_frames = future.shape[:2]
        large = F.interpolate(future.flatten(0, 1), size=(side, side), mode="bilinear")
        painted, shown = clips.clone(), clips.clone()
        painted[:, :, n_seen:] = large.view(*n_frames, *large.shape[1:]).transpose(1, 2)
        shown[:, :, n_seen:] = torch.nan
        return Reconstruction(shown=shown, painted=painted, truth=clips)


class FrameDecoder(nn.Module):
    """An LSTM whose state starts from an embedding (B, width) and which draws a frame per step.

    It reads a learned start, and at the steps that follow what it is shown: the frames drawn before
    (``follows``), the true ones, or the start again.
    """

    def __init__(self, width: int, state_width: int, n_values: int) -> None:
        super().__init__()
        self.begin = nn.Linear(width, 2 * state_width)
        self.start = nn.Parameter(torch.zeros(n_values))
        nn.init.normal_(self.start, std=0.02)
        self.cell = nn.LSTMCell(n_values, state_width)
        self.draw = nn.Linear(state_width, n_values)

    def forward(
        self, embedded: Tensor, n_frames: int, shown: Tensor | None = None, follows: bool = False
    ) -> Tensor:
        """Return ``n_frames`` frames (B, T, n); ``shown`` are the true ones, if it reads them."""
        hidden, memory = torch.tanh(self.begin(embedded)).chunk(2, dim=1)
        start = self.start.expand(len(embedded), -1)
        before, frames = start, []
        for step in range(n_frames):
            hidden, memory = self.cell(before, (hidden, memory))
            frames.append(self.draw(hidden))
            if shown is not None:
                before = shown[:, step]
            elif follows:
                before = frames[-1]
        return torch.stack(frames, dim=1)
