"""Presets: sizes of a study that are known to make sense together, by name."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from melssl.errors import SpecError, nearest
from melssl.frame import Kind
from melssl.settings import Json
from melssl.userpath import user_path

FILE = ".json"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A baseline run as overrides of RunSpec's defaults, and the size of the study around it."""

    purpose: str
    baseline: dict[str, Json]
    fractions: tuple[float, ...]
    n_draws: int
    n_seeds: int = 1


PRESETS: dict[str, Preset] = {
    "smoke": Preset(
        purpose="does everything run? a minute on one core; the numbers mean nothing",
        baseline={
            "cohort": {"source": "synthetic", "n_patients": 60},
            "image_px": 32,
            "folds": {"n_folds": 2},
            "pretraining": {"epochs": 1, "batch_size": 64},
            "backbone": {"family": "small_cnn", "first_width": 8},
        },
        fractions=(0.3, 1.0),
        n_draws=1,
    ),
    "demo": Preset(
        purpose="the embedded default: a made cohort, under five minutes on two cores",
        baseline={
            "image_px": 32,
            "folds": {"n_folds": 3},
            "backbone": {"family": "small_cnn", "first_width": 16},
            "pretraining": {"epochs": 30, "batch_size": 128, "lr": 4e-3, "precision": "bf16"},
        },
        fractions=(0.05, 0.1, 0.25, 0.5, 1.0),
        n_draws=5,
    ),
    "cpu": Preset(
        purpose="a real cohort of some ten thousand images, under an hour on two cores",
        baseline={
            "image_px": 48,
            "folds": {"n_folds": 3},
            "pretraining": {"epochs": 20, "batch_size": 256, "precision": "bf16"},
        },
        fractions=(0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0),
        n_draws=5,
    ),
    "gpu": Preset(
        purpose="a real cohort on one GPU: ResNet-18 at 96 px, five folds",
        baseline={
            "image_px": 96,
            "store_px": 128,
            "folds": {"n_folds": 5},
            "backbone": {"family": "cnn", "model": "resnet18"},
            "pretraining": {"epochs": 100, "batch_size": 256, "precision": "bf16"},
        },
        fractions=(0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0),
        n_draws=5,
    ),
    "volumes": Preset(
        purpose="MR boxes of the hippocampus, masks of 6, 12, 24 and all volumes: an hour on two"
        " cores with a small ViT, more with a U-Net beside it",
        baseline={
            "cohort": {"source": "msd_hippocampus"},
            "image_px": 32,
            "store_px": 52,
            "folds": {"n_folds": 3},
            "views": {"native_scale": True},
            "backbone": {"family": "small_vit", "patch_px": 8, "patch_depth": 8},
            "method": {"name": "volume_autoencoder"},
            "pretraining": {"epochs": 30, "batch_size": 4, "lr": 0.032},
            "protocol": {
                "name": "segmentation",
                "decoder_width": 8,
                "training": {
                    "epochs": 1,
                    "min_steps": 300,
                    "batch_size": 4,
                    "lr": 0.192,
                    "weight_decay": 1e-5,
                },
            },
        },
        fractions=(6, 12, 24, 1.0),
        n_draws=1,
    ),
    "clips": Preset(
        purpose="some hundred clips of 79 patients, 12, 24 and all of a fold's: half an hour on two"
        " cores for seven pretexts with a small 3-D ResNet",
        baseline={
            "cohort": {"source": "pocus_lung_ultrasound"},
            "image_px": 32,
            "folds": {"n_folds": 4},
            "backbone": {"family": "resnet3d", "first_width": 8},
            "pretraining": {"epochs": 100, "batch_size": 32, "lr": 0.01, "precision": "bf16"},
        },
        fractions=(12, 24, 1.0),
        n_draws=3,
    ),
}
MADE = "synthetic"  # how the names of drawn cohorts begin
FITTING: dict[Kind, str] = {"image": "cpu", "volume": "volumes", "clip": "clips"}
VIEWS: dict[Kind, str] = {"image": "medical", "volume": "volume", "clip": "clip"}


def fitting(source: str) -> Preset:
    """Return the preset of a source where none is named; without a source the demo's.

    Raises:
        SpecError: there is no such source.

    """
    from melssl.spec import RunSpec

    if not source or source.startswith(MADE):
        return PRESETS["demo"]
    return PRESETS[FITTING[RunSpec.parse({"cohort": {"source": source}}).cohort.medium.kind]]


def preset(name: str) -> Preset:
    """Return a preset by name, or from the file that a search wrote.

    Raises:
        SpecError: there is no such preset, or the file holds none.

    """
    if name.endswith(FILE):
        return _from_file(user_path(name))
    if name not in PRESETS:
        told = nearest(name, PRESETS)
        raise SpecError(f"preset {name!r} is unknown; {told}; a file's name ends in {FILE}")
    return PRESETS[name]


def to_json(chosen: Preset) -> bytes:
    """Return the content of a file that ``preset`` reads."""
    return json.dumps(dataclasses.asdict(chosen), indent=1).encode() + b"\n"


def _from_file(path: Path) -> Preset:
    try:
        data = json.loads(path.read_text())
        return Preset(**data | {"fractions": tuple(data["fractions"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SpecError(
            f"preset {path}: expected a file that a search wrote ({type(error).__name__}: {error});"
            " search again, or name one of " + ", ".join(PRESETS)
        ) from None
