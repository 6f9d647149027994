"""Sharing: a study costs what its distinct work costs, whatever is crossed with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.design import Study
from ablations.plan import Plan, make_plan
from ablations.preparations import Preparations
from ablations.vault import Vault
from melssl.spec import RunSpec

RATIOS = (0.3, 0.45, 0.6, 0.75, 0.9)
FRACTIONS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SPEC = {
    "cohort": {"source": "synthetic", "n_patients": 100, "image_px": 32},
    "image_px": 32,
    "method": "mae",
    "backbone": {"family": "small_vit", "patch_px": 8, "embed_width": 16, "depth": 1, "heads": 2},
    "folds": {"n_folds": 5},
}


@pytest.fixture(scope="module")
def preparations(tmp_path_factory: pytest.TempPathFactory) -> Preparations:
    return Preparations(tmp_path_factory.mktemp("cache"), decode=False)


@pytest.fixture
def plan_of(preparations: Preparations, tmp_path: Path) -> Callable[..., Plan]:
    """Return a maker of plans of the study of mask ratios, with changes."""

    def make(**changes: object) -> Plan:
        plain: dict[str, object] = {
            "name": "sharing",
            "baseline": RunSpec.parse(SPEC),
            "levels": {"mask_ratio": RATIOS, "label_fraction": FRACTIONS},
            "control": None,
            "n_draws": 3,
        }
        return make_plan(Study.parse(plain | changes), preparations, Vault(tmp_path))

    return make


def counts(plan: Plan) -> dict[str, int]:
    return dict(Counter(kind for kind, _ in plan.stages))


def test_600_trials_have_25_pretrainings_and_one_more_for_all_controls(
    plan_of: Callable[..., Plan],
) -> None:
    alone = plan_of()
    assert counts(alone) == {"pretrain": 25, "embed": 25, "adapt": 600}
    assert alone.n_planned == len(alone.trials) == 600
    beside = plan_of(control="no_pretext")
    assert counts(beside) == {"pretrain": 26, "embed": 26, "adapt": 720}


def test_protocols_share_encoders_and_what_they_read_of_them(
    plan_of: Callable[..., Plan],
) -> None:
    protocols = ("linear_probe", "knn", "fine_tune")
    levels = {"mask_ratio": RATIOS, "label_fraction": FRACTIONS, "protocol": protocols}
    assert counts(plan_of(levels=levels)) == {"pretrain": 25, "embed": 25, "adapt": 3 * 600}


def test_seeds_and_repeats_are_trained_anew_and_draws_are_not(
    plan_of: Callable[..., Plan],
) -> None:
    levels = {"mask_ratio": RATIOS[:2], "label_fraction": (0.5,)}
    shape = {"levels": levels, "control": "no_pretext"}
    pretrainings = {
        name: counts(plan_of(**shape, **{name: 2}))["pretrain"]
        for name in ("n_draws", "n_seeds", "n_repeats")
    }
    assert pretrainings == {"n_draws": 11, "n_seeds": 22, "n_repeats": 21}


def test_an_encoder_that_sees_labels_is_trained_once_per_budget(
    plan_of: Callable[..., Plan],
) -> None:
    levels = {"method": ("supervised",), "label_fraction": (0.5, 1.0)}
    assert counts(plan_of(levels=levels)) == {"pretrain": 20, "embed": 20, "adapt": 20}
