"""Made clips whose class is in the motion alone: the same frames, gone through once or thrice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from melssl.data.cohort import Cohort
from melssl.data.media.clip import ClipMedium
from melssl.data.sources.made import MadeSource
from melssl.seeding import Seed

CYCLES = {"slow": 1, "fast": 3}
N_BLOBS = 2
GOLDEN = 0.6180339887498949  # steps of this, modulo 1, spread evenly over any number of patients


class SyntheticClips(MadeSource):
    """A made cohort in which no frame tells the class, nor do all frames of a clip in any order.

    Blobs circle before a still ground, once in a clip (slow) or three times (fast). As the number
    of frames is no multiple of three, both pass through the same positions: whatever is computed
    frame by frame and then averaged has one distribution in both classes, so that it stays at
    chance. Mirrored, turned or played backwards a clip keeps its class. How wide, large and bright
    circles and blobs are, and the ground of a patient, are nuisance.
    """

    label: ClassVar[str] = "Made clips"
    source: Literal["synthetic_clips"] = "synthetic_clips"
    n_patients: int = Field(80, ge=4, le=100_000, description="number of patients")
    clips_per_patient: int = Field(3, ge=1, le=100, description="clips of each patient")
    n_frames: int = Field(16, ge=4, le=256, description="frames of a clip; no multiple of 3")
    image_px: int = Field(48, ge=16, le=512, description="side of a frame in pixels")
    fast_share: float = Field(0.5, gt=0, lt=1, description="share of patients whose clips are fast")
    swing: float = Field(
        0.15, gt=0, le=0.4, description="mean radius of circles, share of the side"
    )
    noise: float = Field(0.05, ge=0, le=1, description="spread of the noise of every pixel, 0..1")
    cohort_seed: int = Field(0, ge=0, description="which cohort is drawn")

    @property
    def medium(self) -> ClipMedium:
        """Clips with all frames that are drawn."""
        return ClipMedium(n_frames=self.n_frames)

    @model_validator(mode="after")
    def _positions_agree(self) -> Self:
        if self.n_frames % CYCLES["fast"] == 0:
            raise ValueError(
                f"n_frames {self.n_frames}: expected no multiple of {CYCLES['fast']}, or the"
                " positions of fast clips would be fewer, and tell the class"
            )
        return self

    def load(self, cache: Path) -> Cohort:
        """Return the cohort, drawing its clips below ``cache`` where they are not there yet."""
        frame = _table(self)
        root = self.drawn(cache, partial(_write, self, frame), by=("synthetic_clips",))
        return Cohort(
            name=self.source,
            root=root,
            frame=frame,
            classes=tuple(CYCLES),
            medium=self.medium,
        )


@dataclass(frozen=True)
class _Blob:
    """A bright spot: the middle and radius of its circle, its reach, all in sides; its phase."""

    middle: np.ndarray
    radius: float
    way: int
    reach: float
    light: float
    phase: float


def _table(config: SyntheticClips) -> pd.DataFrame:
    start = Seed(config.cohort_seed).child("patients").numpy().uniform()
    rows = []
    for number in range(config.n_patients):
        fast = int((start + number * GOLDEN) % 1 < config.fast_share)
        for place in range(config.clips_per_patient):
            name = f"P{number:05d}-{place:02d}"
            patient = {"patient_id": f"P{number:05d}", "target": fast}
            rows.append(patient | {"sample_id": name, "path": f"{name}.npy"})
    return pd.DataFrame(rows)


def _write(config: SyntheticClips, frame: pd.DataFrame, folder: Path) -> None:
    seed, cycles = Seed(config.cohort_seed), tuple(CYCLES.values())
    columns = (frame[name] for name in ("patient_id", "target", "path"))
    for patient, target, path in zip(*columns, strict=True):
        ground = _ground(config.image_px, seed.child("ground", patient).numpy())
        rng = seed.child("clip", path).numpy()
        np.save(folder / path, draw_clip(config, ground, cycles[target], rng))


def draw_clip(
    config: SyntheticClips, ground: np.ndarray, cycles: int, rng: np.random.Generator
) -> np.ndarray:
    """Return a clip (T, S, S) of bytes whose blobs circle ``cycles`` times before the ground."""
    blobs = [_blob(config, rng) for _ in range(N_BLOBS)]
    noise = rng.standard_normal((config.n_frames, *ground.shape), dtype=np.float32)
    light = np.stack([_frame(ground, blobs, cycles * t / config.n_frames)
                      for t in range(config.n_frames)])  # fmt: skip
    clip: np.ndarray = np.clip(255 * (light + config.noise * noise), 0, 255).astype(np.uint8)
    return clip


def _blob(config: SyntheticClips, rng: np.random.Generator) -> _Blob:
    return _Blob(
        middle=rng.uniform(0.3, 0.7, 2),
        radius=config.swing * math.exp(rng.uniform(-0.5, 0.5)),
        way=int(rng.choice([-1, 1])),
        reach=rng.uniform(0.06, 0.12),
        light=rng.uniform(0.4, 0.8),
        phase=rng.uniform(),
    )


def _frame(ground: np.ndarray, blobs: list[_Blob], turn: float) -> np.ndarray:
    """Return the ground with every blob where it is after ``turn`` of its cycles."""
    side = len(ground)
    place = (np.arange(side, dtype=np.float32) + 0.5) / side
    frame = ground.copy()
    for blob in blobs:
        angle = 2 * math.pi * (blob.way * turn + blob.phase)
        down, right = blob.middle + blob.radius * np.array([math.sin(angle), math.cos(angle)])
        rows = np.exp(-0.5 * ((place - down) / blob.reach) ** 2)
        columns = np.exp(-0.5 * ((place - right) / blob.reach) ** 2)
        frame += blob.light * np.outer(rows, columns)
    return frame


def _ground(side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth still ground (S, S) of one patient, light and dark."""
    place = np.arange(side, dtype=np.float32) / side
    ground = np.full((side, side), rng.uniform(0.1, 0.4), dtype=np.float32)
    for _ in range(6):
        down, right = rng.uniform(-4, 4, 2)
        waves = np.add.outer(down * place, right * place) + rng.uniform()
        ground += (0.05 * np.sin(2 * math.pi * waves)).astype(np.float32)
    return ground
