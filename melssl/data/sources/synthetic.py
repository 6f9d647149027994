"""The embedded default cohort: made patients with dermoscopy-like lesions, no download."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field, model_validator
from tqdm import tqdm

from melssl.data.cohort import Cohort
from melssl.data.sources.made import MadeSource
from melssl.data.sources.synthetic_camera import Camera, photograph
from melssl.data.sources.synthetic_lesions import PATTERNS, Canvas, Signs, Skin, draw_lesion
from melssl.seeding import Seed

SIGNS = tuple(field.name for field in fields(Signs))
CAMERAS = {
    "A": Camera(aspect=1.0, tint=(1.0, 0.98, 0.95), vignette=0.0, blur=0.008, ruler=0.25),
    "B": Camera(aspect=4 / 3, tint=(0.92, 0.97, 1.06), vignette=0.62, blur=0.014, ruler=0.05),
    "C": Camera(aspect=1.5, tint=(1.06, 0.96, 0.90), vignette=0.0, blur=0.011, ruler=0.10),
}
# Shares for (benign, melanoma): the outcome hangs together with the camera, as in SIIM-ISIC 2020.
CAMERA_SHARES = ((0.45, 0.35, 0.20), (0.20, 0.30, 0.50))
PATTERN_SHARES = ((0.25, 0.25, 0.25, 0.13, 0.06, 0.06), (0.30, 0.25, 0.33, 0.04, 0.04, 0.04))
SITES = ("torso", "lower extremity", "upper extremity", "head/neck", "palms/soles")
SITE_SHARES = ((0.48, 0.27, 0.15, 0.07, 0.03), (0.42, 0.22, 0.18, 0.15, 0.03))
GOLDEN = 0.6180339887498949  # steps of this, modulo 1, spread evenly over any number of patients


class Synthetic(MadeSource):
    """A made cohort in which melanoma shows in structure, not in colour, under strong nuisance.

    Each lesion has a severity, Normal(0, 1) if benign and Normal(``separation``, 1) if melanoma,
    and six signs that follow it with unit noise, so that nobody can tell the classes apart fully:
    the signs themselves give a ROC AUC of about .95. A patient depends on ``cohort_seed`` and on
    its number only: a cohort of more patients contains the smaller one.
    """

    label: ClassVar[str] = "Made dermoscopy"
    source: Literal["synthetic"] = "synthetic"
    n_patients: int = Field(300, ge=4, le=100_000, description="number of patients")
    lesions_per_patient: float = Field(
        6.0, ge=2.5, le=10, description="mean number of lesions of a patient, one image each"
    )
    melanoma_share: float = Field(0.15, gt=0, lt=1, description="share of lesions, expected")
    melanoma_patients: float = Field(
        0.45, gt=0, lt=1, description="share of patients with at least one melanoma"
    )
    image_px: int = Field(64, ge=16, le=1024, description="short side of an image in pixels")
    separation: float = Field(
        2.6, ge=0, le=10, description="distance of mean severities; 0: nothing to learn"
    )
    nuisance: float = Field(1.0, ge=0, le=4, description="spread of light and colour, relative")
    cohort_seed: int = Field(0, ge=0, description="which cohort is drawn")

    @model_validator(mode="after")
    def _shares_agree(self) -> Self:
        if not 0 <= self._further_share <= 1:
            raise ValueError(
                f"melanoma_share {self.melanoma_share} cannot be reached: with melanoma_patients"
                f" {self.melanoma_patients} and lesions_per_patient {self.lesions_per_patient} it"
                f" must lie in {self.melanoma_patients / self.lesions_per_patient:.3f}.."
                f"{self.melanoma_patients:.3f}"
            )
        return self

    @property
    def _further_share(self) -> float:
        """Chance of melanoma for the second and later lesions of a patient who has one."""
        mean = self.lesions_per_patient
        return (mean * self.melanoma_share / self.melanoma_patients - 1) / (mean - 1)

    def load(self, cache: Path) -> Cohort:
        """Return the cohort, drawing its images below ``cache`` where they are not there yet."""
        frame = _table(self)
        parts = ("synthetic", "synthetic_camera", "synthetic_lesions")
        root = self.drawn(cache, partial(_write_images, self, frame), by=parts)
        return Cohort(
            name="synthetic",
            root=root,
            frame=frame,
            classes=("benign", "melanoma"),
            clinical=("age", "sex", "site"),
            acquisition=("camera", "width", "height"),
        )


def _table(config: Synthetic) -> pd.DataFrame:
    """One row per lesion: outcome, metadata, camera, pattern and the true ``sign_*`` values."""
    seed = Seed(config.cohort_seed)
    start = seed.child("patients").numpy().uniform()
    ill = [(start + i * GOLDEN) % 1 < config.melanoma_patients for i in range(config.n_patients)]
    rows = [row for i, has in enumerate(ill) for row in _patient(config, seed, i, has)]
    return pd.DataFrame(rows)


def _patient(config: Synthetic, seed: Seed, number: int, ill: bool) -> list[dict[str, object]]:
    rng = seed.child("patient", number).numpy()
    spread = 1.5  # small: few patients have many lesions
    chance = spread / (spread + config.lesions_per_patient - 2)
    n_lesions = 2 + min(int(rng.negative_binomial(spread, chance)), 18)
    shared: dict[str, object] = {
        "patient_id": f"P{number:05d}",
        "age": int(np.clip(5 * np.rint(rng.normal(46 + 9 * ill, 15) / 5), 15, 90)),
        "sex": "male" if rng.uniform() < 0.46 + 0.14 * ill else "female",
    }
    camera = str(rng.choice(tuple(CAMERAS), p=CAMERA_SHARES[ill]))
    pattern = str(rng.choice(PATTERNS[:3], p=(0.4, 0.3, 0.3)))
    rows = []
    for place in range(n_lesions):
        own = seed.child("patient", number, "lesion", place).numpy()
        melanoma = ill and (place == 0 or own.uniform() < config._further_share)
        rows.append(shared | _lesion(config, own, melanoma, (camera, pattern)))
        rows[-1]["sample_id"] = rows[-1]["lesion_id"] = f"P{number:05d}-{place:02d}"
        rows[-1]["path"] = f"P{number:05d}-{place:02d}.jpg"
    return rows


def _lesion(
    config: Synthetic, rng: np.random.Generator, melanoma: bool, usual: tuple[str, str]
) -> dict[str, object]:
    severity = rng.normal(config.separation * melanoma, 1)
    signs = 1 / (1 + np.exp(-1.6 * (severity + rng.normal(0, 1, 6) - 1.4)))
    camera, pattern = usual
    if rng.uniform() < 0.15:
        camera = str(rng.choice(tuple(CAMERAS), p=CAMERA_SHARES[melanoma]))
    if rng.uniform() < 0.4:
        pattern = str(rng.choice(PATTERNS, p=PATTERN_SHARES[melanoma]))
    return {
        "target": int(melanoma),
        "site": str(rng.choice(SITES, p=SITE_SHARES[melanoma])),
        "camera": camera,
        "width": round(config.image_px * CAMERAS[camera].aspect),
        "height": config.image_px,
        "pattern": pattern,
        **{f"sign_{name}": float(s) for name, s in zip(SIGNS, signs, strict=True)},
    }


def _skin(seed: Seed, patient_id: str) -> Skin:
    rng = seed.child("skin", patient_id).numpy()
    tone, flush = rng.beta(1.3, 3.5), rng.uniform()
    absorbed = tone * np.array([0.55, 1.05, 1.40]) + flush * np.array([0.02, 0.22, 0.18])
    return Skin(
        reflectance=np.array([0.93, 0.77, 0.68]) * np.exp(-absorbed),
        mottling=rng.uniform(0.02, 0.1),
        hairs=float(rng.choice([0, 0.5, 1.5, 4], p=[0.4, 0.3, 0.2, 0.1])),
        pigment=float(np.exp(rng.normal(-0.1, 0.25))),
    )


def _write_images(config: Synthetic, frame: pd.DataFrame, folder: Path) -> None:
    seed = Seed(config.cohort_seed)
    skins = {name: _skin(seed, name) for name in frame["patient_id"].unique()}
    rows = frame.to_dict("records")
    for row in tqdm(rows, desc="drawing made lesions", unit="image", disable=None):
        rng = seed.child("image", row["sample_id"]).numpy()
        image = _picture(config, row, skins[row["patient_id"]], rng)
        Image.fromarray(image).save(folder / row["path"], quality=92, subsampling=0)


def _picture(
    config: Synthetic, row: Mapping[Hashable, Any], skin: Skin, rng: np.random.Generator
) -> np.ndarray:
    signs = Signs(**{name: row[f"sign_{name}"] for name in SIGNS})
    canvas = Canvas.blank(row["height"], row["width"], rng)
    image = draw_lesion(canvas, skin, row["pattern"], signs)
    camera = CAMERAS[row["camera"]]
    return photograph(canvas, image, camera, mean_hairs=skin.hairs, nuisance=config.nuisance)
