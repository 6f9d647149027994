"""Attention of a ViT: of its last block, of all blocks rolled out, and of single heads."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pandas as pd
import torch
from timm.utils import AttentionExtract
from torch import Tensor

from melssl.backbones.vit import VitBackbone
from melssl.errors import PictureError
from melssl.pictures.feature_maps import spaced
from melssl.pictures.subject import Subject, middle
from melssl.pictures.tiles import Tile, framed, stretched

MOST_HEADS, MOST_BLOCKS = 8, 4


@torch.no_grad()
def attention(subject: Subject) -> pd.DataFrame:
    """Return three rows of tiles: the image, the last block's attention, and the rollout.

    Raises:
        PictureError: the encoder is no ViT.

    """
    backbone, rows = _vit(subject), subject.shown()
    blocks = attention_of(backbone, subject.views(rows))
    heats = {
        "last block": _read(blocks[-1].mean(dim=1), backbone),
        "rollout": _read(rollout(blocks), backbone),
    }
    outcomes, names, images = subject.outcomes(rows), subject.names(rows), subject.pixels(rows)
    return framed(
        Tile(
            row=row,
            column=column,
            image=images[column],
            heat=None if label == "image" else stretched(heats[label][column]),
            row_label=label,
            column_label=outcomes[column],
            sample_id=names[column],
            by_weights=label != "image",
        )
        for row, label in enumerate(("image", *heats))
        for column in range(len(rows))
    )


@torch.no_grad()
def attention_heads(subject: Subject) -> pd.DataFrame:
    """Return a row of tiles per block (four, evenly spaced) and in it one per head (eight).

    Raises:
        PictureError: the encoder is no ViT.

    """
    backbone, rows = _vit(subject), subject.shown(1)
    blocks = attention_of(backbone, subject.views(rows))
    name, image = subject.names(rows)[0], subject.pixels(rows)[0]
    tiles = [Tile(row=0, column=0, image=image, sample_id=name, by_weights=False)]
    for row, index in enumerate(spaced(len(blocks), MOST_BLOCKS)):
        heads = _read(blocks[index][0, :MOST_HEADS], backbone)
        tiles += [
            Tile(
                row=row,
                column=column,
                image=image,
                heat=stretched(heat),
                row_label=f"block {index + 1}",
                column_label=f"head {column}",
                sample_id=name,
            )
            for column, heat in enumerate(heads, start=1)
        ]
    return framed(tiles)


def attention_of(backbone: VitBackbone, images: Tensor) -> list[Tensor]:
    """Return the attention (B, heads, N, N) of every block; rows sum to 1."""
    for block in backbone.vit.blocks:
        block.attn.fused_attn = False  # the fused kernel keeps no attention
    found = AttentionExtract(backbone.vit, method="hook")(images)
    return list(found.values())


def rollout(blocks: list[Tensor]) -> Tensor:
    """Return how much of every input token reaches every output token, (B, N, N).

    ``A_L ... A_1`` with ``A = (mean over heads + I) / 2``, the identity for what passes a block
    beside its attention (Abnar and Zuidema 2020, section 3).
    """
    identity = torch.eye(blocks[0].shape[-1])
    layers = [(block.mean(dim=1) + identity) / 2 for block in blocks]
    return reduce(lambda below, layer: layer @ below, layers)


def _read(weights: Tensor, backbone: VitBackbone) -> np.ndarray:
    """Return how the embedding reads the patches, (B, rows, columns): what it is pooled from."""
    own = weights[:, :1] if backbone.pool == "class" else weights[:, 1:]
    rows: Tensor = own.mean(dim=1)[:, 1:]
    grids: np.ndarray = middle(rows.reshape(-1, 1, *backbone.grid))[:, 0].numpy()
    return grids


def _vit(subject: Subject) -> VitBackbone:
    if not isinstance(subject.backbone, VitBackbone):
        raise PictureError(f"{subject.spec.backbone.label} has no attention over patches")
    return subject.backbone
