"""Nearest neighbours: which images of other patients an encoder finds most like a lesion."""

from __future__ import annotations

import numpy as np
import pandas as pd

from melssl.pictures.embedding_map import unit_length
from melssl.pictures.subject import Subject
from melssl.pictures.tiles import Tile, framed

N_QUERIES, N_NEAREST = 4, 6


def neighbours(subject: Subject) -> pd.DataFrame:
    """Return a row of tiles per query: the image, then the nearest of other patients' images.

    All are of test patients, one image of each patient; ``value`` is the cosine of the centred
    embeddings, ``mark`` the outcome. The query's own patient is never among them.
    """
    queries, (rows, embeddings) = subject.shown(N_QUERIES), subject.sample
    unit, patients = unit_length(embeddings), subject.patients[rows]
    unit_of, tiles = subject.prepared.cohort.patient_unit, []
    for place, query in enumerate(queries):
        at = int(np.flatnonzero(rows == query)[0])
        cosine = np.where(patients == patients[at], -np.inf, unit @ unit[at])
        order = np.argsort(-cosine, kind="stable")
        order = order[np.isfinite(cosine[order])]
        _, first = np.unique(patients[order], return_index=True)
        nearest = order[np.sort(first)[:N_NEAREST]]
        found = np.concatenate([[at], nearest])
        images, outcomes = subject.pixels(rows[found]), subject.outcomes(rows[found])
        names = subject.names(rows[found])
        tiles += [
            Tile(
                row=place,
                column=column,
                image=images[column],
                column_label="query" if column == 0 else f"nearest of other {unit_of}s",
                value=float(cosine[found[column]]) if column else float("nan"),
                mark=outcomes[column],
                sample_id=names[column],
                by_weights=column > 0,
            )
            for column in range(len(found))
        ]
    return framed(tiles)
