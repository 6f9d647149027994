"""Embeddings in two dimensions: principal components and t-SNE, with what may explain them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from melssl.errors import PictureError
from melssl.pictures.subject import Subject

MOST_COMPONENTS, PERPLEXITY = 50, 30
LEAST = 5


def embedding_map(subject: Subject) -> pd.DataFrame:
    """Return ``projection, x, y, sample_id, patient, outcome, camera`` of tested images.

    Principal components are of the embeddings as they are; t-SNE (van der Maaten and Hinton 2008)
    is of the centred ones at unit length, as kNN reads them, by their first 50 components.

    Raises:
        PictureError: fewer than five images.

    """
    rows, embeddings = subject.sample
    if len(rows) < LEAST:
        raise PictureError(f"expected {LEAST} tested images or more for a map, got {len(rows)}")
    n_components = min(MOST_COMPONENTS, *embeddings.shape)
    first = PCA(2, random_state=0).fit_transform(embeddings)
    components = PCA(n_components, random_state=0).fit_transform(unit_length(embeddings))
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    with threadpool_limits(1):  # the same map on any number of cores, and no wait on busy ones
        close = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(components)
    cameras = subject.prepared.cohort.cameras
    about = pd.DataFrame(
        {
            "sample_id": subject.names(rows),
            "patient": subject.patients[rows].astype(str),
            "outcome": subject.outcomes(rows),
            "camera": "" if cameras is None else cameras.to_numpy(object)[rows],
        }
    )
    parts = [("PCA", first), ("t-SNE", close)]
    return pd.concat(
        [about.assign(projection=name, x=_even(xy[:, 0]), y=_even(xy[:, 1])) for name, xy in parts],
        ignore_index=True,
    )


def unit_length(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings (N, D) less their mean, each of length 1."""
    centred = embeddings - embeddings.mean(axis=0)
    scaled: np.ndarray = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    return scaled


def _even(values: np.ndarray) -> np.ndarray:
    """Return coordinates from 0 to 1: their unit says nothing."""
    low, span = values.min(), max(np.ptp(values), 1e-12)
    even: np.ndarray = ((values - low) / span).astype(np.float64).round(5)
    return even
