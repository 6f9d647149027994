"""Strips: the frames of clips side by side, as a method shows, makes or reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from melssl.data.views import VIEW_PRESETS
from melssl.errors import PictureError
from melssl.methods.base import Batch
from melssl.methods.clips.order_prediction import OrderPrediction
from melssl.methods.clips.order_verification import OrderVerification
from melssl.methods.clips.space_time_puzzle import SpaceTimePuzzle
from melssl.methods.clips.video_gan import VideoGan
from melssl.methods.clips.video_lstm import VideoLstm
from melssl.pictures.subject import SEED, Subject
from melssl.pictures.tiles import Tile, framed

PLAIN = VIEW_PRESETS["none"]
N_CLIPS, N_FRAMES = 4, 8
HEAT_PLACES = 8  # along a side: gradients of single pixels are speckle


@torch.no_grad()
def clip_orders(subject: Subject) -> pd.DataFrame:
    """Return a row of tiles per test clip: the pieces in the order in which they are asked for.

    ``value`` is where a piece belongs, from 1; of a piece from outside the window it is 0.

    Raises:
        PictureError: the method shuffles no clips.

    """
    method = subject.method
    if not isinstance(method, OrderVerification | OrderPrediction):
        raise PictureError(f"{subject.spec.method.name} shuffles no frames of clips")
    clips, batch, rows = _shown(subject)
    pieces, orders, _ = method.questions(clips, batch)
    of_window = {3: 0} if isinstance(method, OrderVerification) else {}
    # of every clip the second question: for verification the one that is shuffled
    asked = orders[:, min(1, orders.shape[1] - 1)].tolist()
    return framed(
        Tile(
            row=row,
            column=column,
            image=image,
            row_label=subject.outcomes(rows)[row],
            column_label=f"shown {column + 1}",
            value=float(of_window.get(piece, piece + 1)),
            sample_id=subject.names(rows)[row],
            by_weights=False,
        )
        for row, order in enumerate(asked)
        for column, piece in enumerate(order)
        for image in frames_seen(pieces[row, piece][None])[0][:1]
    )


@torch.no_grad()
def space_time_cubes(subject: Subject) -> pd.DataFrame:
    """Return two rows of tiles, cubes in space and in time as they are shuffled, of one test clip.

    Of every cube the middle frame; ``value`` is where it belongs, from 1.

    Raises:
        PictureError: the method makes no such puzzle.

    """
    method = subject.method
    if not isinstance(method, SpaceTimePuzzle):
        raise PictureError(f"{subject.spec.method.name} makes no puzzle in space and time")
    clips, batch, rows = _shown(subject)
    tiles = []
    for row, layout in enumerate(method.readers):
        cubes, orders, _, _ = method.puzzles(clips, batch, "space" if layout == "space" else "time")
        for column, cube in enumerate(orders[0, 0].tolist()):
            frames = frames_seen(cubes[0, cube][None])[0]
            tile = Tile(
                row=row,
                column=column,
                image=frames[len(frames) // 2],
                row_label=f"in {layout}",
                column_label=f"shown {column + 1}",
                value=float(cube + 1),
                sample_id=subject.names(rows)[0],
                by_weights=False,
            )
            tiles.append(tile)
    return framed(tiles)


@torch.no_grad()
def made_clips(subject: Subject) -> pd.DataFrame:
    """Return a row of frames per made clip, and below it the mask of what moves.

    Raises:
        PictureError: the method makes no clips.

    """
    method = subject.method
    if not isinstance(method, VideoGan):
        raise PictureError(f"{subject.spec.method.name} makes no clips")
    size = (N_CLIPS // 2, method.config.noise_width)
    made, mask = method.made(torch.randn(size, generator=SEED.child("noise").torch()))
    rows: list[tuple[str, np.ndarray]] = []
    for clip, own in zip(frames_seen(made), mask[:, 0].numpy(), strict=True):
        rows += [("made", clip), ("moving", own)]
    return framed(_strips(rows))


def futures(subject: Subject) -> pd.DataFrame:
    """Return for each test clip a row of its true frames and one with the future as it is drawn.

    Raises:
        PictureError: the method draws no future.

    """
    method = subject.method
    if not isinstance(method, VideoLstm):
        raise PictureError(f"{subject.spec.method.name} draws no future")
    clips, batch, _ = _shown(subject, N_CLIPS // 2)
    found = method.reconstruct(batch)
    if found is None:
        raise PictureError("future_weight=0: only the past is drawn")
    rows: list[tuple[str, np.ndarray]] = []
    for true, drawn in zip(frames_seen(clips), frames_seen(found.painted), strict=True):
        rows += [("true", true), ("drawn", drawn)]
    return framed(_strips(rows, first_drawn=method.n_seen))


def temporal_saliency(subject: Subject) -> pd.DataFrame:
    """Return a row of frames per test clip, the heat and ``value`` of each what changes most.

    The heat is the size of the gradient of the embedding's squared length by each pixel, averaged
    over small squares; ``value`` is the frame's share of all of it (Simonyan et al. 2014, in time).

    Raises:
        PictureError: the samples are no clips.

    """
    if subject.prepared.cohort.medium.kind != "clip":
        raise PictureError(f"{subject.prepared.cohort.name} holds no clips, so no time to look at")
    clips, _, rows = _shown(subject)
    clips.requires_grad_()
    subject.backbone(clips).square().sum().backward()
    assert clips.grad is not None
    heat = clips.grad.abs().sum(dim=1)
    share = (heat.sum(dim=(2, 3)) / heat.sum(dim=(1, 2, 3)).clamp(min=1e-12)[:, None]).numpy()
    coarse = F.adaptive_avg_pool2d(heat, min(HEAT_PLACES, heat.shape[-1]))
    strength = (coarse / coarse.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)).numpy()
    images = frames_seen(clips.detach())
    outcomes, names = subject.outcomes(rows), subject.names(rows)
    return framed(
        Tile(
            row=row,
            column=column,
            image=images[row][t],
            heat=strength[row, t],
            row_label=outcomes[row],
            column_label=f"frame {t + 1}",
            value=float(share[row, t]),
            sample_id=names[row],
        )
        for row in range(len(rows))
        for column, t in enumerate(_spread(images.shape[1]))
    )


def frames_seen(clips: Tensor) -> np.ndarray:
    """Return clips (B, C, D, S, S) as frames (B, D, S, S[, 3]) in 0..1, normalisation undone."""
    mean, std = (clips.new_tensor(values) for values in (PLAIN.mean, PLAIN.std))
    if clips.shape[1] == 1:
        mean, std = mean.mean()[None], std.mean()[None]
    shape = (-1, 1, 1, 1)
    frames = (clips.detach().float() * std.view(shape) + mean.view(shape)).movedim(1, -1)
    seen: np.ndarray = frames.clamp(0, 1).cpu().numpy()
    return seen[..., 0] if clips.shape[1] == 1 else seen


def _shown(subject: Subject, n: int = N_CLIPS) -> tuple[Tensor, Batch, np.ndarray]:
    """Return test clips as the encoder sees them, as a batch, and their rows."""
    rows = subject.shown(n)
    clips, place = subject.views(rows), torch.arange(len(rows))
    rng = SEED.child("strips").torch()
    return clips, Batch(views=(clips,), place=place, patient=place, rng=rng), rows


def _spread(n_frames: int) -> Sequence[int]:
    places = np.linspace(0, n_frames - 1, min(n_frames, N_FRAMES)).round()
    return [int(place) for place in places]


def _strips(rows: Sequence[tuple[str, np.ndarray]], first_drawn: int = 0) -> Iterator[Tile]:
    for row, (label, frames) in enumerate(rows):
        for column, t in enumerate(_spread(len(frames))):
            yield Tile(
                row=row,
                column=column,
                image=frames[t],
                row_label=label,
                column_label=f"frame {t + 1}" + (", seen" if t < first_drawn else ""),
                by_weights=label != "true",
            )
