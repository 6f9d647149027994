"""A tiny study that was trained, and a competition's made test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ablations.commands import collect_study, study_folder
from ablations.cost import estimate
from ablations.design import Study
from ablations.options import RunOptions
from ablations.plan import looked_up, make_plan
from ablations.preparations import Preparations
from ablations.run import run_plan
from ablations.vault import Vault
from melssl.files import write_atomically
from melssl.spec import RunSpec

NAMES = tuple(f"ISIC_{number:07d}" for number in (40, 11, 7, 93, 58))  # in no order, as theirs
TINY = {
    "cohort": {"source": "synthetic", "n_patients": 24, "image_px": 32},
    "image_px": 32,
    "folds": {"n_folds": 2},
    "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
    "pretraining": {"epochs": 1, "batch_size": 32},
    "audit": {"images": "bytes"},
}


@dataclass(frozen=True)
class Trained:
    """Where a finished study lies, and how its commands are told."""

    out: Path
    study: Study
    options: RunOptions

    @property
    def arguments(self) -> list[str]:
        """What every command is given here."""
        return ["--study", self.study.name, "--backend", "sequential", "--threads", "1"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return two arms x two folds at all labels, trained without a ledger."""
    out = tmp_path_factory.mktemp("trained")
    options = RunOptions(
        backend="sequential",
        workers=1,
        threads=1,
        device="cpu",
        n_devices=1,
        tracking_uri="",
        vault=out / "vault",
    )
    study = Study(name="tiny", baseline=RunSpec.parse(TINY), levels={"label_fraction": (1.0,)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELSSL_OUT", str(out))
        vault = Vault(options.vault)
        plan = make_plan(study, Preparations(vault.root), vault)
        run_plan(plan, vault, options, estimate(plan, vault, 1), lambda _: None)
        folder = study_folder(study.name)
        folder.mkdir(parents=True)
        write_atomically(folder / "study.json", study.model_dump_json().encode())
        collect_study(looked_up(plan, vault), vault)
    return Trained(out, study, options)


@pytest.fixture
def trained(finished: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Return it as the study that commands find."""
    monkeypatch.setenv("MELSSL_OUT", str(finished.out))
    return finished


@pytest.fixture(scope="session")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in the layout of SIIM-ISIC 2020: test images only, and one is missing."""
    root = tmp_path_factory.mktemp("siim")
    (root / "jpeg" / "test").mkdir(parents=True)
    rng = np.random.default_rng(5)
    for name in NAMES[:-1]:
        picture = Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8))
        picture.save(root / "jpeg" / "test" / f"{name}.jpg")
    people = {"patient_id": "IP_1", "sex": "female", "age_approx": "45.0"}
    table = pd.DataFrame({"image_name": NAMES, **people, "anatom_site_general_challenge": "torso"})
    table.to_csv(root / "test.csv", index=False)
    sample = pd.DataFrame({"image_name": NAMES, "target": 0})
    sample.to_csv(root / "sample_submission.csv", index=False)
    return root
