"""Made cohorts: a row per sample, whose picture is a number; the same number, the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from melssl.data.cohort import Cohort

Made = Callable[..., Cohort]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Return a maker of cohorts from rows ``(sample, patient, target, picture[, split])``."""

    def make(*rows: tuple[object, ...], name: str = "made", **known: object) -> Cohort:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for sample, _, _, picture, *_ in rows:
            pixels = np.random.default_rng(int(str(picture))).integers(0, 256, (12, 16, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"{sample}.png")
        columns = ["sample_id", "patient_id", "target", "picture", "split"][: len(rows[0])]
        frame = pd.DataFrame(rows, columns=columns)
        frame["path"] = frame["sample_id"] + ".png"
        lesions = known.pop("lesions", None)
        if lesions is not None:
            frame["lesion_id"] = lesions
        values = {"name": name, "classes": ("benign", "melanoma")} | known
        return Cohort(root=root, frame=frame, **values)  # type: ignore[arg-type]

    return make
