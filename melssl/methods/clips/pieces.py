"""Pieces of a clip: where in time they lie, how they are cut, disguised, and read in an order."""

from __future__ import annotations

from itertools import permutations
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.data.views import ViewRecipe
from melssl.errors import BackboneError
from melssl.methods.base import Batch, MethodConfig
from melssl.methods.orders import shuffled
from melssl.methods.tiles import Level, cut, levelled

STILL = 1e-6  # motion of a window in which nothing moves, so that one can be drawn of still clips


class PieceConfig(MethodConfig):
    """Settings of a puzzle of pieces of a clip; a subclass per puzzle.

    ``moved``, ``level`` and ``one_channel`` close shortcuts: what runs on from the border of one
    piece in the next, brightness that drifts, and colours that a lens or a codec fringes.
    """

    moved: float = Field(
        0.05, ge=0, le=0.5, description="how far each piece is moved by itself, share of the side"
    )
    level: Level = Field(
        "image", description="mean and spread that every piece gets: its clip's; 0 and 1; or none"
    )
    one_channel: float = Field(
        0.5, ge=0, le=1, description="probability that a piece in colour shows one channel thrice"
    )
    projection_width: Annotated[int, Field(ge=8)] = 128
    hidden_width: Annotated[int, Field(ge=8)] = 512


class OrderConfig(PieceConfig):
    """Settings of a puzzle of pieces in time; a subclass per puzzle."""

    span: float = Field(
        0.3, gt=0, le=1, description="length of the window that pieces come from, share of the clip"
    )
    frames_each: int = Field(1, ge=1, description="frames of a piece")
    fusion: Literal["early", "late"] = Field(
        "early",
        description="the pieces are joined into a clip, for nets that see motion; or each is"
        " encoded alone and embeddings lie side by side, as published, for nets of frames",
    )


def whole_frames(base: ViewRecipe) -> ViewRecipe:
    """Return a recipe whose views hold the frames as they are.

    A crop in time that is stretched mixes neighbours, which would give each other away.
    """
    return base.replace(depth_scale=(1, 1), erase=0)


def uniform(batch: Batch, *size: int) -> Tensor:
    """Draw (B, *size) in 0..1 for the whole batch; return this process's part of it."""
    return batch.mine(torch.rand(batch.n_drawn, *size, generator=batch.rng))


def whole_below(drawn: Tensor, n: Tensor | int) -> Tensor:
    """Return whole numbers 0..n-1 for numbers ``drawn`` in 0..1, 1 left out."""
    return (drawn * n).long()


def motion(clips: Tensor) -> Tensor:
    """Return the mean absolute change (B, D - 1) from each frame of (B, C, D, S, S) to the next."""
    return clips.diff(dim=2).abs().mean(dim=(1, 3, 4))


def window_starts(moved: Tensor, n_frames: int, allowed: Tensor, drawn: Tensor) -> Tensor:
    """Return where windows of ``n_frames`` begin (B,), drawn by how much moves in them.

    ``moved`` (B, D - 1) is the motion from frame to frame, ``allowed`` (D - n_frames + 1,) bool
    says where one may begin, ``drawn`` (B,) lies in 0..1.
    """
    so_far = nn.functional.pad(moved.double().cumsum(dim=1), (1, 0))
    weight = so_far[:, n_frames - 1 :] - so_far[:, : so_far.shape[1] - n_frames + 1]
    edges = ((weight + STILL) * allowed.to(weight.device)).cumsum(dim=1)
    wanted = drawn.to(edges)[:, None] * edges[:, -1:]
    return torch.searchsorted(edges, wanted, right=True)[:, 0]


def taken(clips: Tensor, starts: Tensor, frames_each: int) -> Tensor:
    """Return the pieces (B, n, C, F, S, S) of ``frames_each`` frames that begin at (B, n)."""
    places = starts[..., None] + torch.arange(frames_each, device=starts.device)
    clip = torch.arange(len(clips), device=clips.device)[:, None, None]
    return clips.transpose(1, 2)[clip, places.to(clips.device)].transpose(2, 3)


def disguised(pieces: Tensor, config: PieceConfig, batch: Batch) -> Tensor:
    """Return pieces (B, n, C, F, S, S) moved, with one channel of some, and levelled."""
    corners, channel, keeps = (uniform(batch, pieces.shape[1], k) for k in (2, 1, 1))
    if config.moved:
        pieces = nudged(pieces, config.moved, corners)
    if pieces.shape[2] > 1 and config.one_channel:
        chosen = whole_below(channel, pieces.shape[2]).to(pieces.device)
        one = pieces.take_along_dim(chosen[..., None, None, None], dim=2)
        alone = (keeps < config.one_channel).to(pieces.device)[..., None, None, None]
        pieces = torch.where(alone, one.expand_as(pieces), pieces)
    return levelled(pieces, config.level)


def nudged(pieces: Tensor, moved: float, corners: Tensor) -> Tensor:
    """Cut a square of side ``1 - moved`` out of each piece, the same in its frames, and enlarge it.

    ``corners`` (B, n, 2) in 0..1 say where, from the top left to the bottom right.
    """
    n_frames, side = pieces.shape[3], pieces.shape[-1]
    length = round((1 - moved) * side)
    first = whole_below(corners, side - length + 1).flatten(0, 1)
    first = nn.functional.pad(first, (1, 0))[:, None]  # all frames
    box, whole = (n_frames, length, length), (n_frames, side, side)
    return cut(pieces.flatten(0, 1), first, box, whole).view(pieces.shape)


def held(pieces: Tensor, backbone: Backbone, *, alone: bool) -> Tensor:
    """Return pieces (B, n, C, F, S, S) whose frames are held for as long as the backbone needs.

    Patches may be several frames long. Of a single frame ``alone`` there are two: torch's 3-D
    convolution gives NaN now and then where a first layer sees a depth of one (2.15, on CPUs).
    """
    step = backbone.patch[0] if isinstance(backbone, TokenBackbone) else 1
    times = step if pieces.shape[3] % step else 1
    deep = any(isinstance(layer, nn.Conv3d) for layer in backbone.modules())
    if alone and deep and times * pieces.shape[3] == 1:
        times = 2
    return pieces if times == 1 else pieces.repeat_interleave(times, dim=3)


class PieceReader(nn.Module):
    """Scores the answers (N, A) to which order pieces are shown in; the backbone is its caller's.

    Late: each piece is encoded once, whatever the number of orders. Early: each order is a clip.
    """

    def __init__(
        self, width: int, n_pieces: int, n_answers: int, config: PieceConfig, *, late: bool = True
    ) -> None:
        super().__init__()
        self.late = late
        self.narrow = nn.Linear(width, config.projection_width)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(
                (n_pieces if late else 1) * config.projection_width, config.hidden_width, bias=False
            ),
            nn.BatchNorm1d(config.hidden_width),
            nn.ReLU(),
            nn.Linear(config.hidden_width, n_answers),
        )

    def forward(self, backbone: Backbone, pieces: Tensor, orders: Tensor) -> Tensor:
        """Return the scores of the ``orders`` (B, K, n) of pieces (B, m, C, F, S, S): (B K, A)."""
        orders, pieces = orders.to(pieces.device), held(pieces, backbone, alone=self.late)
        if not self.late:
            joined = shuffled(pieces, orders).transpose(2, 3).flatten(0, 1).flatten(2, 3)
            return self._answers(self.narrow(backbone(joined)))
        embedded = self.narrow(backbone(pieces.flatten(0, 1)))
        side_by_side = shuffled(embedded.view(*pieces.shape[:2], -1), orders).flatten(2)
        return self._answers(side_by_side.flatten(0, 1))

    def _answers(self, embedded: Tensor) -> Tensor:
        scores: Tensor = self.head(embedded)
        return scores


def orders_of(n_pieces: int) -> Tensor:
    """Return all orders (n!, n) of pieces, in lexicographic order."""
    return torch.tensor(list(permutations(range(n_pieces))))


def check_depth(name: str, depth: int | None, needed: int, advice: str) -> int:
    """Return the number of frames that a backbone sees.

    Raises:
        BackboneError: they are no clips, or shorter than ``needed``.

    """
    if depth is None or depth < needed:
        got = "single images" if depth is None else f"clips of {depth}"
        raise BackboneError(
            f"{name}: expected clips of {needed} frames or more, got {got}; {advice}"
        )
    return depth
