"""Copies of pictures, altered as files get altered on their way from one data set to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

Picture = Image.Image
Change = Callable[[Picture, np.random.Generator], Picture]


@dataclass(frozen=True)
class Copy:
    """A file made from an original by a change."""

    original: Path
    change: str
    file: Path


def _cut(picture: Picture, rng: np.random.Generator, *, across: float, down: float) -> Picture:
    """Cut a share of the width and height off at corners drawn by chance, the hardest place."""
    width, height = picture.size
    kept = round(width * (1 - across)), round(height * (1 - down))
    left, top = rng.choice([0, width - kept[0]]), rng.choice([0, height - kept[1]])
    return picture.crop((left, top, left + kept[0], top + kept[1]))


def _half(picture: Picture, _: np.random.Generator) -> Picture:
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)


def _warmer(picture: Picture, _: np.random.Generator) -> Picture:
    gains = np.array([1.06, 1.0, 0.94])
    return Image.fromarray((np.asarray(picture) * gains).clip(0, 255).astype(np.uint8))


def _much(picture: Picture, rng: np.random.Generator) -> Picture:
    return _flipped(_cut(picture, rng, across=0.1, down=0.1), rng)


def _flipped(picture: Picture, _: np.random.Generator) -> Picture:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


CHANGES: dict[str, tuple[Change, int]] = {  # with the quality of the JPEG file
    "half size": (_half, 90),
    "JPEG quality 40": (lambda picture, _: picture, 40),
    "flipped": (_flipped, 95),
    "turned 90": (lambda picture, _: picture.transpose(Image.Transpose.ROTATE_90), 95),
    "brighter 10 %": (lambda picture, _: ImageEnhance.Brightness(picture).enhance(1.1), 95),
    "warmer 6 %": (_warmer, 95),
    "corner cut 5 %": (partial(_cut, across=0.05, down=0.05), 95),
    "corner cut 10 %": (partial(_cut, across=0.1, down=0.1), 95),
    "side cut 10 %": (partial(_cut, across=0.1, down=0.0), 95),
    "corner cut 10 %, flipped, JPEG quality 60": (_much, 60),
}


def copies(paths: Sequence[Path], n: int, seed: int, folder: Path) -> list[Copy]:
    """Write, per change, a copy of each of n originals; every change draws its own by chance."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    made = []
    for place, (name, (change, quality)) in enumerate(CHANGES.items()):
        for row in rng.choice(len(paths), min(n, len(paths)), replace=False):
            file = folder / f"{place}_{paths[row].stem}.jpg"
            with Image.open(paths[row]) as picture:
                change(picture.convert("RGB"), rng).save(file, quality=quality)
            made.append(Copy(paths[row], name, file))
    return made
