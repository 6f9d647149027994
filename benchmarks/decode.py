"""What does decoding once save? Epochs from JPEG files against epochs from the store."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from benchmarks.answer import Answer, Row, compared
from benchmarks.material import Material
from benchmarks.measure import Crew, Effort, Lap, Runner, Way, Work, interleave, rates
from melssl.data.decode import decode
from melssl.data.pixels import PixelStore
from melssl.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class StoreRead:
    """Batches in random order from a pixel store."""

    store: Path
    batch_size: int

    def prepare(self) -> Runner:
        """Open the store."""
        images = PixelStore.open(self.store)

        def run(steps: int) -> Lap:
            orders = _orders(len(images), steps, self.batch_size)
            started = time.perf_counter()
            for rows in orders:
                images.batch(rows)
            return Lap(items=steps * self.batch_size, seconds=time.perf_counter() - started)

        return run


@dataclass(frozen=True, kw_only=True)
class JpegRead:
    """The same batches by opening, decoding and resizing each file, as a Dataset would."""

    files: tuple[str, ...]
    image_px: int
    batch_size: int

    def prepare(self) -> Runner:
        """Build the transform."""
        square = v2.Compose([v2.Resize(self.image_px), v2.CenterCrop(self.image_px), v2.ToImage()])

        def read(path: str) -> torch.Tensor:
            with Image.open(path) as image:
                pixels: torch.Tensor = square(image.convert("RGB"))
            return pixels

        def run(steps: int) -> Lap:
            orders = _orders(len(self.files), steps, self.batch_size)
            started = time.perf_counter()
            for rows in orders:
                torch.stack([read(self.files[row]) for row in rows])
            return Lap(items=steps * self.batch_size, seconds=time.perf_counter() - started)

        return run


@dataclass(frozen=True, kw_only=True)
class StoreBuild:
    """What a store costs once: our decoder, without the writing."""

    files: tuple[str, ...]
    image_px: int
    batch_size: int

    def prepare(self) -> Runner:
        """Nothing to prepare."""

        def run(steps: int) -> Lap:
            orders = _orders(len(self.files), steps, self.batch_size)
            started = time.perf_counter()
            for rows in orders:
                for row in rows:
                    decode(Path(self.files[row]), self.image_px, "crop")
            return Lap(items=steps * self.batch_size, seconds=time.perf_counter() - started)

        return run


def ways(material: Material, batch_size: int) -> list[Way]:
    """Return reading, the building that comes once before it, and decoding in every epoch."""
    files, image_px = material.files, material.image_px
    read = StoreRead(store=material.store, batch_size=batch_size)
    build = StoreBuild(files=files, image_px=image_px, batch_size=batch_size)
    jpeg = JpegRead(files=files, image_px=image_px, batch_size=batch_size)
    works: list[tuple[str, bool, Work]] = [
        ("melssl, every epoch: PixelStore.batch", True, read),
        ("melssl, once: decode", True, build),
        ("obvious, every epoch: open, decode, resize", False, jpeg),
    ]
    return [
        Way(
            name=name,
            place="1 process x 1 thread",
            group="one core",
            ours=ours,
            where="solo",
            work=work,
        )
        for name, ours, work in works
    ]


def answer(materials: Iterable[Material], crew: Crew, effort: Effort, *, batch_size: int) -> Answer:
    """Measure every kind of file."""
    rows: list[Row] = []
    notes = []
    for material in materials:
        chosen = ways(material, batch_size)
        read, build, jpeg = (rates(laps) for laps in interleave(chosen, crew, effort))
        rows += compared(material.name, chosen, [read, build, jpeg], "images/s", "more")
        epochs = (1 / build.median) / (1 / jpeg.median - 1 / read.median)
        notes.append(f"{material.name}: a store is paid for after {epochs:.1f} epochs")
    return Answer(
        question="Decoding in every epoch against reading the store",
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _orders(n: int, steps: int, batch_size: int) -> list[np.ndarray]:
    rng = Seed(0).child("order").numpy()
    return [rng.choice(n, batch_size, replace=n < batch_size) for _ in range(steps)]
