"""What two arms may differ in, found mechanically from their resolved runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from melssl.settings import with_overrides
from melssl.spec import RunSpec, differing

ARM = RunSpec.parse({"method": "simclr"})
FAIR = {"method", "pretraining"}


def test_an_arm_differs_from_its_control_in_method_and_pretraining_only() -> None:
    assert differing(ARM, ARM.replace(method="no_pretext")) == FAIR


def test_views_pool_and_schedule_belong_to_pretraining() -> None:
    other = with_overrides(ARM, ["views=imagenet", "pool=train+test", "pretraining.epochs=3"])
    assert differing(ARM, other) == {"pretraining"}


def test_two_controls_do_not_differ_in_a_pretraining_that_neither_has() -> None:
    control = ARM.replace(method="no_pretext")
    assert differing(control, control.replace(views="imagenet")) == frozenset()


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("backbone=resnet18", "backbone"),
        ("image_px=32", "image_px"),
        ("protocol=knn", "protocol"),
        ("protocol.strength=2", "protocol"),
        ("budget.fraction=0.5", "budget"),
        ("folds.seed=1", "folds"),
        ("seed=1", "seed"),
        ("cohort.n_patients=40", "cohort"),
    ],
)
def test_whatever_else_differs_is_named(override: str, part: str) -> None:
    other = with_overrides(ARM.replace(method="no_pretext"), [override])
    assert differing(ARM, other) == FAIR | {part}


def test_where_the_files_lie_is_no_difference(tmp_path: Path) -> None:
    here, there = (
        ARM.replace(cohort={"source": "ham10000", "root": str(tmp_path / name)}) for name in "ab"
    )
    assert differing(here, there) == frozenset()
