"""Image and metadata: the loss against loops; equal records are one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from melssl.backbones import backbone_config
from melssl.errors import TrainingError
from melssl.methods.base import Batch, PoolFacts
from melssl.methods.image_metadata import (
    ImageMetadata,
    ImageMetadataConfig,
    equal_rows,
    info_nce,
)

CNN = {"family": "small_cnn", "first_width": 8, "n_blocks": 2}
PX = 16


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facts(n: int = 8) -> PoolFacts:
    return PoolFacts(n_samples=n, n_patients=4, image_px=PX, metadata_width=3)


def batch(n: int, n_views: int = 1) -> Batch:
    views = torch.randn(n_views, n, 3, PX, PX, generator=rng())
    place = torch.arange(n)
    return Batch(views=tuple(views), place=place, patient=place // 2, rng=rng())


def image_metadata(**changes: object) -> ImageMetadata:
    torch.manual_seed(0)
    config = ImageMetadataConfig().replace(**changes)
    return ImageMetadata(config, backbone_config(CNN).build(PX), facts())


def minus_log_softmax(row: list[float], answer: int) -> float:
    top = max(row)
    return top + math.log(sum(math.exp(s - top) for s in row)) - row[answer]


def nce(scores: list[list[float]], same: list[list[bool]], temperature: float) -> float:
    """The divergence of softmax from even shares of the positives, by loops."""
    losses = []
    for row, positive in zip(scores, same, strict=True):
        share = 1 / sum(positive)
        logs = [-minus_log_softmax([s / temperature for s in row], j) for j in range(len(row))]
        losses.append(
            sum(share * (math.log(share) - logs[j]) for j, yes in enumerate(positive) if yes)
        )
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.005, 0.1])
def test_image_and_metadata_are_compared_both_ways_with_equal_records_as_one(
    temperature: float,
) -> None:
    records = torch.rand(6, 3, generator=rng())
    records[4] = records[1]
    some = replace(batch(6), metadata=records)
    method = image_metadata(temperature=temperature)
    result = method.step(some)
    with torch.no_grad():
        image = method.image_head(method.backbone(some.views[0])).double()
        record = method.record_head(records).double()
    image, record = (x / x.norm(dim=1, keepdim=True) for x in (image, record))
    same = [[bool((a == b).all()) for b in records] for a in records]
    assert sum(map(sum, same)) == 8
    scores = image @ record.T
    expected = [nce(s.tolist(), same, temperature) for s in (scores, scores.T)]
    assert result.loss.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_equal_records_are_no_negatives() -> None:
    records = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    same = equal_rows(records, records)
    assert same.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    perfect = torch.where(same, 0.0, -1e4)
    assert info_nce(perfect, same).item() == pytest.approx(0, abs=1e-6)
    only_own = torch.where(torch.eye(3, dtype=torch.bool), 0.0, -1e4)
    assert info_nce(only_own, same) > 1000


def test_a_batch_of_one_record_asks_nothing_and_scores_as_guessing() -> None:
    some = replace(batch(4), metadata=torch.ones(4, 3))
    method = image_metadata()
    result = method.step(some)
    assert result.loss > 0  # images are asked to be alike for their record
    assert result.parts["accuracy"].item() == method.chance == 0.5


def test_metadata_that_is_not_there_is_an_error() -> None:
    with pytest.raises(TrainingError, match="clinical columns in the pool, got none"):
        ImageMetadata(
            ImageMetadataConfig(),
            backbone_config(CNN).build(PX),
            PoolFacts(n_samples=8, n_patients=4, image_px=PX),
        )
    with pytest.raises(TrainingError, match="metadata with the batch"):
        image_metadata().step(batch(4))


def test_a_cold_batch_of_two_in_half_precision_gives_a_finite_loss() -> None:
    some = replace(batch(2), metadata=torch.rand(2, 3, generator=rng()))
    with torch.autocast("cpu", torch.bfloat16):
        result = image_metadata(temperature=0.005).step(some)
    assert result.loss.dtype == torch.float32
    assert torch.isfinite(result.loss)
    assert 0 <= result.parts["accuracy"] <= 1
