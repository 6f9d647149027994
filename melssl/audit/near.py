"""Pairs of near-identical pictures: broad shapes propose a pair, aligned texture decides.

Resized, compressed, flipped, turned by quarters, cropped or lightened copies are one picture. Two
lesions are not, however alike their blobs: a pair counts only where hair, pores and pigment match.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from melssl.audit.align import agreement, settle
from melssl.audit.fingerprints import WAVES, Fingerprints
from melssl.audit.shapes import CROPS, cropped, shape, turned
from melssl.audit.texture import textures

NEAR = 0.83  # measured by proofs/near_duplicates.py
PROPOSED = 0.85  # broad shapes that agree less are never looked at
NEIGHBOURS = 10  # pictures looked at, per picture
STARTS = 3  # orientations and crops tried, per pair
PROMISING = 0.65  # agreement at half the side, below which the full side is not looked at

ORIENTATIONS = (
    *("as is", "turned 90", "turned 180", "turned 270"),
    *("flipped", "flipped, turned 90", "flipped, turned 180", "flipped, turned 270"),
)
_ROWS, _COLUMNS, _PAIRS = 32, 1024, 64  # blocks that stay in a processor's cache


@dataclass(frozen=True, kw_only=True)
class NearPair:
    """Two files of one picture, by row, ``first < second``.

    ``similarity`` is the correlation of their textures after alignment, 0 .. 1; ``orientation`` is
    what turns the second into the first: a flip is left to right and comes before the turn, a turn
    is counter-clockwise.
    """

    first: int
    second: int
    similarity: float
    orientation: str


def near_pairs(
    prints: Fingerprints, threshold: float = NEAR, *, workers: int = 1
) -> list[NearPair]:
    """Return the pairs whose textures agree by ``threshold`` or more, by first and second row.

    Of byte-identical files one stands for all. Each picture is compared with the ``NEIGHBOURS``
    that its broad shapes resemble most, so of many copies not every pair is listed, but a chain.
    """
    readable = np.setdiff1d(np.arange(len(prints.sha256)), list(prints.faults))
    rows = readable[np.unique(prints.sha256[readable], return_index=True)[1]]
    if len(rows) < 2:
        return []
    pictures = _pictures(prints, rows)  # sorted by hash: the order of files decides nothing
    with ThreadPoolExecutor(workers) as pool:
        wanted = _blocks(np.arange(len(rows)), _ROWS)
        proposed = np.concatenate(list(pool.map(partial(_nearest, pictures), wanted)))
        pairs = _blocks(np.unique(np.sort(proposed, axis=1), axis=0), _PAIRS)
        found = [pair for some in pool.map(partial(_compared, pictures), pairs) for pair in some]
    near = [_pair(rows, match) for match in found if match.similarity >= threshold]
    return sorted(near, key=lambda pair: (pair.first, pair.second))


@dataclass(frozen=True, kw_only=True)
class _Pictures:
    whole: np.ndarray  # (8, N, D) broad shapes, by orientation
    crops: np.ndarray  # (C, N, D) broad shapes of parts
    textures: tuple[np.ndarray, ...]  # (N, S, S) at a quarter, half and all of the side

    def __len__(self) -> int:
        return len(self.textures[0])


def _pictures(prints: Fingerprints, rows: np.ndarray) -> _Pictures:
    coarse = prints.coarse[rows].reshape(-1, 3, WAVES, WAVES)
    blocks = [textures(prints.fine[some]) for some in _blocks(rows, _PAIRS)]
    return _Pictures(
        whole=np.stack([shape(turned(coarse, o)) for o in range(8)]),
        crops=np.stack([shape(cropped(coarse, crop)) for crop in CROPS]),
        textures=tuple(np.concatenate(level) for level in zip(*blocks, strict=True)),
    )


def _blocks(rows: np.ndarray, length: int) -> list[np.ndarray]:
    return [rows[at : at + length] for at in range(0, len(rows), length)]


def _nearest(pictures: _Pictures, rows: np.ndarray) -> np.ndarray:
    """Return pairs (P, 2) of ``rows`` with the neighbours that they may be a part of."""
    queries = pictures.whole[:, rows].reshape(8 * len(rows), -1)
    best = np.full((len(rows), len(pictures)), -1, np.float32)
    for at in range(0, best.shape[1], _COLUMNS):
        part = best[:, at : at + _COLUMNS]
        for crop in pictures.crops:
            alike = (queries @ crop[at : at + _COLUMNS].T).reshape(8, len(rows), -1)
            np.maximum(part, alike.max(0), out=part)
    best[np.arange(len(rows)), rows] = -1
    most = min(NEIGHBOURS, best.shape[1])
    near = np.argpartition(best, -most, axis=1)[:, -most:]
    row, place = np.nonzero(np.take_along_axis(best, near, 1) >= PROPOSED)
    return np.stack([rows[row], near[row, place]], 1)


@dataclass(frozen=True, kw_only=True)
class _Start:
    """The pictures ``part`` (P,), turned by ``orientation`` (P,), lie in others by ``placing``."""

    part: np.ndarray
    other: np.ndarray
    orientation: np.ndarray
    placing: np.ndarray  # (P, 4)

    def __getitem__(self, chosen: np.ndarray) -> _Start:
        columns = {name: column[chosen] for name, column in vars(self).items()}
        return _Start(**columns)


def _starts(pictures: _Pictures, pairs: np.ndarray) -> Iterator[_Start]:
    """Yield, likeliest first, ways in which one of each pair (P, 2) may be a part of the other."""
    alike = [
        np.einsum("opd,cpd->ocp", pictures.whole[:, part], pictures.crops[:, other])
        for part, other in (pairs.T, pairs.T[::-1])
    ]
    ways = np.stack(alike)
    order = np.argsort(-ways.reshape(-1, len(pairs)), axis=0, kind="stable")
    for likely in order[:STARTS]:
        side, orientation, crop = np.unravel_index(likely, ways.shape[:3])
        part, other = np.take_along_axis(pairs, np.stack([side, 1 - side], 1), 1).T
        yield _Start(part=part, other=other, orientation=orientation, placing=CROPS[crop])


@dataclass(frozen=True)
class _Match:
    part: int
    other: int
    orientation: int
    similarity: float


def _compared(pictures: _Pictures, pairs: np.ndarray) -> list[_Match]:
    """Align the pairs (P, 2), from coarse to fine; leave out those without promise."""
    *rough, fine = pictures.textures
    tried = []
    for start in _starts(pictures, pairs):
        for level, steps in zip(rough, (5, 3), strict=True):
            start, reached = _settled(level, start, steps)
        tried.append((start, reached))
    best = np.argmax([reached for _, reached in tried], axis=0)
    matches = []
    for which, (start, reached) in enumerate(tried):
        chosen = start[(best == which) & (reached >= PROMISING)]
        end, similarity = _settled(fine, chosen, 5)
        columns = (end.part, end.other, end.orientation, similarity)
        matches += [_Match(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    return matches


def _settled(textures: np.ndarray, start: _Start, steps: int) -> tuple[_Start, np.ndarray]:
    """Return better placings at one size, and the agreement there (P,)."""
    one = _turned_each(textures[start.part].astype(np.float32), start.orientation)
    two = textures[start.other].astype(np.float32)
    placing = settle(one, two, start.placing, steps)
    return replace(start, placing=placing), agreement(one, two, placing)


def _pair(rows: np.ndarray, match: _Match) -> NearPair:
    first, second = sorted((int(rows[match.part]), int(rows[match.other])))
    orientation = match.orientation
    if first == rows[match.part] and orientation < 4:  # a flip, turned or not, undoes itself
        orientation = -orientation % 4
    return NearPair(
        first=first,
        second=second,
        similarity=min(1.0, match.similarity),
        orientation=ORIENTATIONS[orientation],
    )


def _turned_each(pictures: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """Return pictures (B, S, S), each flipped and turned by its own orientation."""
    turned = np.empty_like(pictures)
    for o in np.unique(orientations):
        chosen = pictures[orientations == o]
        chosen = chosen[:, :, ::-1] if o >= 4 else chosen
        turned[orientations == o] = np.rot90(chosen, o % 4, axes=(1, 2))
    return turned
