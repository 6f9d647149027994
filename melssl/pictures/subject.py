"""Subject: one encoder of a study, and the images of test patients that it is shown on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from melssl.backbones.base import Backbone
from melssl.data.images import Images
from melssl.data.views import VIEW_PRESETS, ViewRecipe, apply_view
from melssl.encoders import build_method, load_backbone
from melssl.errors import ArtifactError, PictureError
from melssl.evaluation.encode import encode
from melssl.methods.base import Method
from melssl.pool import Pool, pool
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.training.checkpoint import load_tensors, tensor_digest

CPU = torch.device("cpu")
PLAIN = VIEW_PRESETS["none"]
N_SHOWN, MOST_SAMPLED = 8, 1000
SEED = Seed(0).child("pictures")  # all encoders of a study show the same images


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An encoder by its run and its stored weights; ``embeddings`` (N, D) are its own, if stored.

    ``judged`` is the folder of the trial that it is shown by.

    Images are those of the fold's test patients, whom pretraining has not seen unless it is
    transductive.
    """

    spec: RunSpec
    prepared: Prepared
    weights: Path
    embeddings: Path | None = None
    judged: Path | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights: of all tensors of the method, names and values."""
        tensors, _ = load_tensors(self.weights)
        return tensor_digest(tensors)

    @cached_property
    def backbone(self) -> Backbone:
        """The encoder in evaluation mode."""
        backbone, _ = load_backbone(self.spec, self.weights)
        return backbone.eval().requires_grad_(requires_grad=False)

    @cached_property
    def method(self) -> Method:
        """The trained method with all its heads, in evaluation mode."""
        n_classes = len(self.prepared.cohort.classes)
        method = build_method(self.spec, self.pool, n_classes)
        tensors, _ = load_tensors(self.weights)
        method.load_state_dict(tensors)
        return method.eval().requires_grad_(requires_grad=False)

    @cached_property
    def pool(self) -> Pool:
        """What pretraining saw."""
        return pool(self.spec, self.prepared)

    @cached_property
    def images(self) -> Images:
        """The pixels of the cohort."""
        return self.prepared.images()

    @property
    def frame(self) -> pd.DataFrame:
        """The cohort's table."""
        return self.prepared.cohort.frame

    @property
    def patients(self) -> np.ndarray:
        """The patient of every sample, (N,)."""
        return self.frame["patient_id"].to_numpy(object)

    @property
    def targets(self) -> np.ndarray:
        """The outcome of every sample, (N,)."""
        return self.frame["target"].to_numpy(np.int64)

    def outcomes(self, rows: np.ndarray) -> list[str]:
        """Return the outcomes of samples by name."""
        classes = self.prepared.cohort.classes
        return [classes[target] if target >= 0 else "" for target in self.targets[rows]]

    def names(self, rows: np.ndarray) -> list[str]:
        """Return the ids of samples."""
        return [str(name) for name in self.frame["sample_id"].to_numpy(object)[rows]]

    @cached_property
    def tested(self) -> np.ndarray:
        """Rows of images of the fold's test patients, in a hashed order of patients.

        Those with an outcome, where there are some.
        """
        known = np.isin(self.patients, list(self.prepared.fold(self.spec).test))
        rows = np.flatnonzero(known & (self.targets >= 0))
        rows = rows if len(rows) else np.flatnonzero(known)
        if not len(rows):
            raise PictureError(f"fold {self.spec.fold}: expected images of test patients, got none")
        ranks = SEED.ranks([str(name) for name in self.patients[rows]])
        ordered: np.ndarray = rows[np.argsort(ranks, kind="stable")]
        return ordered

    @cached_property
    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (B,) of tested images, whole patients but for the last, and their embeddings."""
        rows = np.union1d(self.tested[:MOST_SAMPLED], self.shown(N_SHOWN))
        return rows, self.embedded(rows)

    def shown(self, n: int = N_SHOWN) -> np.ndarray:
        """Return at most ``n`` tested rows, one to a patient, classes alike and side by side."""
        _, first = np.unique(self.patients[self.tested], return_index=True)
        rows = self.tested[np.sort(first)]
        classes = [rows[self.targets[rows] == k] for k in np.unique(self.targets[rows])]
        shares = _shares([len(members) for members in classes], n)
        parts = [members[:share] for members, share in zip(classes, shares, strict=True)]
        return np.concatenate(parts[::-1])  # the rare outcome, the last class, comes first

    def views(self, rows: np.ndarray, recipe: ViewRecipe = PLAIN) -> Tensor:
        """Return samples (B, *frame.shape) as the encoder sees them, or as a recipe makes them."""
        stored = self.images.frame
        params = recipe.sample(len(rows), stored, SEED.torch(), size=self.spec.frame)
        return apply_view(self.images.batch(rows), params)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Return images (B, S, S, 3), or grey (B, S, S), in 0..1 as large as the encoder sees."""
        return seen(self.views(rows), PLAIN)

    def embedded(self, rows: np.ndarray) -> np.ndarray:
        """Return embeddings (B, D), the stored ones where there are some."""
        if self.embeddings is None:
            # one of its own: encoding lays weights out anew, and gradients cannot pass them then
            backbone, _ = load_backbone(self.spec, self.weights)
            return encode(backbone, backbone, self.images, rows, self.spec.frame, CPU)
        stored: np.ndarray = np.load(self.embeddings, mmap_mode="r", allow_pickle=False)
        if len(stored) != len(self.frame):
            raise ArtifactError(
                f"{self.embeddings}: expected {len(self.frame)} embeddings, got {len(stored)};"
                " delete the folder and run again"
            )
        return np.asarray(stored[rows])


def seen(views: Tensor, recipe: ViewRecipe) -> np.ndarray:
    """Return views (B, C, [D,] S, S) as images in 0..1, their normalisation undone.

    Images are (B, S, S, 3), grey ones (B, S, S); of volumes and clips the middle slice or frame.
    """
    mean, std = (views.new_tensor(x)[:, None, None] for x in (recipe.mean, recipe.std))
    flat = middle(views.float())
    if flat.shape[1] == 1:  # as the views of grey samples are normalised
        mean, std = mean.mean(dim=0), std.mean(dim=0)
    images: np.ndarray = (flat * std + mean).movedim(1, 3).cpu().numpy()
    return images[..., 0] if images.shape[-1] == 1 else images


def middle(maps: Tensor) -> Tensor:
    """Return maps (B, C, H, W) as they are, and of (B, C, D, H, W) the middle of D."""
    return maps[:, :, maps.shape[2] // 2] if maps.ndim == 5 else maps


def _shares(sizes: Sequence[int], n: int) -> list[int]:
    """Return how many of each class to take, as alike as the classes allow."""
    taken = [0] * len(sizes)
    for _ in range(min(n, sum(sizes))):
        open_ones = [k for k, size in enumerate(sizes) if taken[k] < size]
        taken[min(open_ones, key=lambda k: (taken[k], -k))] += 1
    return taken
