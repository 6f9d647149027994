"""What is measured on: real JPEG files where there are any, else made ones, and their store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from melssl.data.cohort import Cohort
from melssl.data.pixels import PixelStore
from melssl.seeding import Seed

HAM10000 = "ham10000"
SMALL_PX, LARGE_PX = (150, 200), (1024, 1024)


@dataclass(frozen=True, kw_only=True)
class Material:
    """JPEG files and the folder of the store that holds them at ``image_px``."""

    name: str
    files: tuple[str, ...]
    store: Path
    image_px: int
    cohort: Cohort


def small_images(data_root: Path, folder: Path, n: int, image_px: int) -> Material:
    """Return n dermoscopy images of HAM10000 (200 x 150), or as many made ones of that size."""
    root = data_root / HAM10000
    found = sorted(root.glob("HAM10000_images_part_*/*.jpg"))
    if not found:
        return _made("made JPEGs, 200 x 150", folder / "small", SMALL_PX, n, image_px)
    chosen = Seed(0).child("benchmark").numpy().permutation(len(found))[:n]
    files = [found[i].relative_to(root) for i in sorted(chosen)]
    return _material("HAM10000, 200 x 150", root, files, folder / "ham10000", image_px)


def large_images(folder: Path, n: int, image_px: int) -> Material:
    """Return n made JPEGs of 1024 x 1024, about as large as dermatoscopes deliver."""
    return _made("made JPEGs, 1024 x 1024", folder / "large", LARGE_PX, n, image_px)


def _made(name: str, folder: Path, shape: tuple[int, int], n: int, image_px: int) -> Material:
    images = folder / "images"
    images.mkdir(parents=True)
    rng = Seed(0).child("benchmark", "made").numpy()
    for index in range(n):
        # broad colour and fine grain: a JPEG's size, and so its cost, comes from both
        coarse = Image.fromarray(rng.integers(60, 220, (9, 9, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC), np.float32)
        grain = rng.normal(0, 6, (*shape, 1)).astype(np.float32)
        pixels = (smooth + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{index:04d}.jpg", quality=90)
    files = [path.relative_to(images) for path in sorted(images.iterdir())]
    return _material(name, images, files, folder, image_px)


def _material(name: str, root: Path, files: list[Path], folder: Path, image_px: int) -> Material:
    names = [path.stem for path in files]
    frame = pd.DataFrame(
        {"sample_id": names, "path": map(str, files), "patient_id": names, "target": 0}
    )
    cohort = Cohort(name=name, root=root, frame=frame, classes=("image",))
    store = folder / f"pixels-{image_px}"
    PixelStore.build(cohort, store, size_px=image_px, progress=False)
    paths = tuple(str(root / path) for path in files)
    return Material(name=name, files=paths, store=store, image_px=image_px, cohort=cohort)
