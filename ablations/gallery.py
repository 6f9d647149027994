"""Gallery: pictures of a study's encoders, plain files that both sides agree on.

``gallery.json`` and one CSV per kind of picture; pixels stand in the CSV as PNG in base64. They
show patients' images.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from melssl.errors import ArtifactError, listed
from melssl.files import publish, staged

FORMAT = 1
INDEX = "gallery.json"
ENCODERS = ("encoder", "cells", "weights", "fold", "seed")
REFUSED = ("kind", "encoder", "reason")
TEXT = (
    *("encoder", "cells", "weights", "kind", "reason", "row_label", "column_label", "mark"),
    *("sample_id", "pixels", "heat", "projection", "patient", "outcome", "camera"),
)
AGAIN = "make them again: python -m ablations pictures"


class GalleryError(ArtifactError):
    """The pictures of a study are missing, damaged, or not what they say they are."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures by kind.

    ``encoders`` has a row per encoder that is shown: the key of its pretraining, the ``cells`` that
    share it (joined by spaces), the SHA-256 of its ``weights``, fold and seed. A frame of ``kinds``
    names the ``encoder`` in every row. ``refused`` says which pictures could not be made, and why.

    Raises:
        GalleryError: two encoders of other weights have one and the same picture.

    """

    encoders: pd.DataFrame
    kinds: Mapping[str, pd.DataFrame]
    refused: pd.DataFrame

    def __post_init__(self) -> None:
        faults = list(_twins(self))
        if faults:
            raise GalleryError(
                "pictures of encoders with other weights are the same, byte by byte; at least one"
                f" shows another encoder than it says:\n{listed(faults)}"
            )

    def save(self, folder: Path) -> None:
        """Write the files; the index, which holds their digests, is put in place last."""
        folder.mkdir(parents=True, exist_ok=True)
        frames = {"encoders": self.encoders, "refused": self.refused, **self.kinds}
        content = {name: frame.to_csv(index=False).encode() for name, frame in frames.items()}
        digests = {name: hashlib.sha256(text).hexdigest() for name, text in content.items()}
        index = {"format": FORMAT, "frames": digests}
        files = {f"{name}.csv": text for name, text in content.items()}
        files[INDEX] = json.dumps(index, indent=1).encode() + b"\n"
        parts = {name: staged(folder / name, text) for name, text in files.items()}
        for name, part in parts.items():
            publish(part, folder / name)

    @classmethod
    def load(cls, folder: Path) -> Gallery:
        """Read what ``save`` wrote.

        Raises:
            GalleryError: a file is missing, changed since, or of another format.

        """
        try:
            index = json.loads((folder / INDEX).read_text())
            version, digests = index["format"], dict(index["frames"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GalleryError(f"{folder / INDEX}: cannot be read ({error!r}); {AGAIN}") from None
        if version != FORMAT:
            raise GalleryError(
                f"{folder / INDEX}: expected format {FORMAT}, got {version}; {AGAIN}"
            )
        frames = {name: _frame(folder / f"{name}.csv", sha) for name, sha in digests.items()}
        return cls(encoders=frames.pop("encoders"), refused=frames.pop("refused"), kinds=frames)


def _frame(path: Path, expected: str) -> pd.DataFrame:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise GalleryError(f"{path}: differs from its digest; {AGAIN}")
    return pd.read_csv(
        io.BytesIO(content),
        dtype=dict.fromkeys(TEXT, str),
        keep_default_na=False,
        na_values={"value": [""]},
    )


def _twins(gallery: Gallery) -> Iterator[str]:
    """Yield the pairs of encoders of other weights that have one and the same picture."""
    known = gallery.encoders.set_index("encoder")
    for kind, frame in gallery.kinds.items():
        made = frame[frame["by_weights"].astype(bool)] if "by_weights" in frame else frame
        content = {
            str(encoder): rows.drop(columns="encoder").to_csv(index=False)
            for encoder, rows in made.groupby("encoder", sort=False)
        }
        for one, other in combinations(content, 2):
            weights = [str(known.loc[encoder, "weights"]) for encoder in (one, other)]
            if content[one] == content[other] and weights[0] != weights[1]:
                cells = [str(known.loc[encoder, "cells"]) for encoder in (one, other)]
                named = [f"{c} (weights {w[:12]})" for c, w in zip(cells, weights, strict=True)]
                yield f"{kind}: {' and '.join(named)}"
