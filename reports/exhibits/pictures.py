"""Pictures of what encoders have learnt: grids of tiles, one block per arm. They show patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.cells import planned_cells, units
from reports.exhibit import FigureExhibit
from reports.stages import settings_of
from reports.tiles import draw_tiles

MAKE = "no pictures were made: python -m ablations pictures"
# What the caption of each kind says; the order is that of a report.
KINDS = {
    "views": "Views of one training image, as pretraining drew them in its first epochs.",
    "reconstruction": "Reconstructions. Image: of a test {unit}; shown: what the encoder was given "
    "of it (flat grey: nothing); painted: what was made of that. Where targets are normalised, the "
    "true mean and deviation of each patch are put back; what was not hidden is copied.",
    "attention": "Attention over patches, brightest where most is read: of the last block (mean of "
    "its heads), and of all blocks rolled out (Abnar and Zuidema 2020). Each from its least to its "
    "greatest value.",
    "attention_heads": "Attention of single heads, up to eight, in up to four blocks, evenly "
    "spaced; each from its least to its greatest value.",
    "grad_cam": "Grad-CAM: the places of the last map that speak for the outcome in a linear probe "
    "of the largest label budget (Selvaraju et al. 2017), brightest where most; below, the probe's "
    "probability. Of two outcomes the rare one is asked for, of several each image's own.",
    "filters": "Filters of the first layer, the largest first, each from its least to its greatest "
    "weight.",
    "feature_maps": "Feature maps of one image: the eight channels of each stage that vary most "
    "over it, each from its least value (black) to its greatest.",
    "masks": "Masks of three test {units} by their Dice coefficient, which stands below: the best, "
    "the median, the worst; the slice with most of any structure, its true mask, the drawn one; "
    "orange, blue, green, pink: the cohort's structures in their order.",
    "neighbours": "Nearest neighbours: the images of other test {units} whose embeddings are most "
    "like the query's, one of each; below, the cosine of the centred embeddings. Frames: outcomes.",
    "clip_orders": "Frames of clips in an order that the task asks about; below, where each "
    "belongs, counted from 1 (0: outside of the window).",
    "space_time_cubes": "Cubes of one clip as the task shuffles them, by their middle frames, cut "
    "from the plane and from time; below, where each belongs, counted from 1.",
    "made_clips": "Clips that the generator made, and the share of each place that it moves.",
    "futures": "The end of clips as the decoder draws it from their beginning, small and enlarged.",
    "temporal_saliency": "Where and when an embedding changes most: size of the gradient of its "
    "squared length; below, the share of each frame.",
}
OF_THE_ARM = ("encoder", "panel", "stamp", "weights")
FROM_TESTS = (
    *("reconstruction", "attention", "attention_heads", "grad_cam", "feature_maps", "masks"),
    *("clip_orders", "space_time_cubes", "futures", "temporal_saliency"),
)
A_CLIP_PER_ROW = ("clip_orders", "temporal_saliency")


@dataclass(frozen=True)
class Pictures(FigureExhibit):
    """One kind of picture, a block of tiles per arm."""

    kind: str = "views"

    @property
    def name(self) -> str:
        """Stem of the files."""
        return self.kind

    @classmethod
    def each(cls, info: StudyInfo) -> Sequence[Self]:
        """Return one exhibit per kind."""
        return tuple(map(cls, KINDS))

    def needs(self, table: TrialTable) -> str | None:
        """Pictures of this kind, made of this study."""
        return missing(table, self.kind)

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the tiles with ``panel`` and ``stamp``; what arms share is there once."""
        assert table.gallery is not None
        return shared_once(with_arms(table.gallery.kinds[self.kind], table))

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw a block per arm."""
        return draw_tiles(frame, info, width, rows_alike=self.kind in A_CLIP_PER_ROW)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what is shown, of whom, and that weights are named."""
        many = units(info)
        told = KINDS[self.kind].format(units=many, unit=many.removesuffix("s"))
        unseen = "" if info.pool != "train" else ", whom pretraining has not seen"
        return captions.joined(
            told,
            f"Images are of test {many}{unseen}." if self.kind in FROM_TESTS else "",
            "At the right, the first digits of the weights' SHA-256.",
            captions.footing(info),
        )


def missing(table: TrialTable, kind: str) -> str | None:
    """Return why a study has no picture of a kind, or None if it has some."""
    gallery, study = table.gallery, table.info.name
    if table.gallery_fault:
        return table.gallery_fault
    if gallery is None:
        return f"{MAKE} --study {study}"
    if _are_stale(table, gallery.encoders):
        return f"its pictures are of other encoders: python -m ablations pictures --study {study}"
    if kind not in gallery.kinds:
        reasons = gallery.refused.loc[gallery.refused["kind"] == kind, "reason"]
        return "; ".join(dict.fromkeys(reasons)) or f"{MAKE} --study {study}"
    return None


def _are_stale(table: TrialTable, encoders: pd.DataFrame) -> bool:
    """Say whether an encoder is none of those of its cells, or its cells are none of the study."""
    stages = table.curves[["stage", "cells"]].drop_duplicates()
    trained = stages.assign(cell=stages["cells"].str.split()).explode("cell")
    cells = set(planned_cells(table)["cell"])
    for encoder, shared in zip(encoders["encoder"], encoders["cells"].str.split(), strict=True):
        own = set(trained.loc[trained["cell"].isin(shared), "stage"])
        if (own and f"pretrain/{encoder}" not in own) or not cells.issuperset(shared):
            return True
    return False


def with_arms(rows: pd.DataFrame, table: TrialTable) -> pd.DataFrame:
    """Return rows with an ``encoder`` with the ``panel`` (its arm) and ``stamp``, in order."""
    assert table.gallery is not None
    known = table.gallery.encoders.rename(columns={"encoder": "stage"})
    named = settings_of(known[["stage", "cells"]], table).merge(known, on="stage")
    both = named["panel"] + ", " + named["series"]
    named["panel"] = named["panel"].where(named["panel"] == named["series"], both)
    named["stamp"] = "weights " + named["weights"].str[:12]
    named = named.rename(columns={"stage": "encoder"})
    return named[["encoder", "panel", "stamp", "weights"]].merge(rows, on="encoder")


def shared_once(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out what weights had no part in where an earlier arm shows it.

    Arms that share all their tiles (views of one recipe) become one, with the stamps of all.
    """
    by_weights = rows["by_weights"].astype(bool)
    if not by_weights.any():
        return _joined(rows)
    made = by_weights.groupby([rows["encoder"], rows["row"]]).transform("any")
    given = rows[~made]
    again = given.duplicated([name for name in rows if name not in OF_THE_ARM])
    return rows.drop(index=given.index[again]).reset_index(drop=True)


def _joined(rows: pd.DataFrame) -> pd.DataFrame:
    groups: dict[str, list[pd.DataFrame]] = {}
    for _, tiles in rows.groupby("encoder", sort=False):
        groups.setdefault("".join(tiles["pixels"]), []).append(tiles)
    joined = []
    for alike in groups.values():
        panels = [tiles["panel"].iloc[0] for tiles in alike]
        weights = [tiles["weights"].iloc[0] for tiles in alike]
        stamp = f"weights {_few([one[:12] for one in weights])}"
        joined.append(alike[0].assign(panel=_few(panels), stamp=stamp, weights=" ".join(weights)))
    return pd.concat(joined, ignore_index=True)


def _few(names: Sequence[str]) -> str:
    """Return two names, and how many more there are."""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return "; ".join(names[:2]) + more
