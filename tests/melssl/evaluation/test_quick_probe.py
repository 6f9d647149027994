"""The quick probe reads an outcome from other patients' images, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from melssl.backbones.base import Backbone
from melssl.evaluation.quick_probe import MOST_IMAGES, QuickProbe
from melssl.seeding import Seed

N = 120


class Reads(Backbone):
    """An encoder whose embedding is given: images hold their own place."""

    width = map_width = 8

    def __init__(self, embeddings: np.ndarray) -> None:
        super().__init__()
        self.known = nn.Parameter(torch.from_numpy(embeddings).float())

    def forward(self, images: Tensor) -> Tensor:
        return self.known[images[:, 0, 0, 0].long()]

    def stages(self) -> list[nn.Module]:
        return [self]

    def features(self, images: Tensor) -> list[Tensor]:
        return [self(images)[..., None, None]]


def views(places: np.ndarray) -> Tensor:
    return torch.from_numpy(places).float()[:, None, None, None].expand(-1, 3, 2, 2)


def score(embeddings: np.ndarray, target: np.ndarray, patient: np.ndarray) -> float:
    probe = QuickProbe.of(views, target, patient)
    assert probe is not None
    return probe(Reads(embeddings).eval())


def patients(n: int, each: int) -> np.ndarray:
    return np.array([f"p{i // each}" for i in range(n)], dtype=object)


def test_what_the_embedding_knows_is_found() -> None:
    target = (np.arange(N) // 3 % 2).astype(np.int64)
    noise = Seed(0).child("noise").numpy().normal(size=(N, 8))
    assert score(noise + 4 * target[:, None], target, patients(N, 3)) > 0.99


@pytest.mark.parametrize("whose", ["image", "patient"])
def test_an_encoder_that_knows_no_outcome_stands_at_chance(whose: str) -> None:
    """Not below it either, though a patient who is left out leaves fewer of the own class."""
    who = np.arange(N) // 4
    target = (who % 2).astype(np.int64)
    found = []
    for seed in range(20):
        noise = Seed(seed).child("noise").numpy().normal(size=(N, 8))
        known = noise if whose == "image" else noise[who] + 0.01 * noise
        found.append(score(known, target, patients(N, 4)))
    assert 0.42 < np.mean(found) < 0.58


def test_classes_are_alike_and_unlabelled_images_are_left_out() -> None:
    target = np.full(2000, -1)
    target[:900], target[900:960] = 0, 1
    probe = QuickProbe.of(views, target, patients(2000, 2))
    assert probe is not None
    assert np.bincount(probe.target).tolist() == [MOST_IMAGES // 2, 60]


@pytest.mark.parametrize("target", [np.zeros(8, int), np.full(8, -1), np.array([0] * 7 + [1])])
def test_without_two_classes_of_two_patients_there_is_no_probe(target: np.ndarray) -> None:
    assert QuickProbe.of(views, target, patients(8, 1)) is None
