"""Factors: by name or by a setting's path, at home where they mean something, safe as names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.collect import collect
from ablations.commands import _params as study_params
from ablations.design import Study
from ablations.factors import FACTORS, factor_named
from ablations.options import RunOptions, add_study_options, study_from
from ablations.plan import Plan
from ablations.records import _params as trial_params
from ablations.table import TrialTable
from ablations.vault import Vault
from melssl.errors import SpecError
from melssl.spec import PARTS, RunSpec
from reports.build import Target, write
from reports.exhibits.factor_curve import FactorCurve


def built(*arguments: str) -> Study:
    parser = argparse.ArgumentParser()
    add_study_options(parser, factor=True)
    return study_from(parser.parse_args(arguments), "label_fraction")


def test_a_setting_of_any_method_is_a_factor_by_its_path() -> None:
    study = built("--factor", "method.gap", "--values", "0.2,40%", "--fractions", "1")
    assert study.baseline.method.name == "relative_position"
    cells = [c for c in study.cells() if dict(c.levels)["method.gap"] is not None]
    assert [c.spec.method.gap for c in cells] == [0.2, 0.4]
    factor = factor_named("method.gap")
    said = PARTS["method"]["relative_position"].model_fields["gap"].description
    assert said is not None
    assert factor.label == f"Gap ({said.partition(';')[0].partition(':')[0]})"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("backbone.depth", "6", 6),
        ("protocol.k", "7", 7),
        ("protocol.training.lr", "0.01", 0.01),
        ("views.blur", "30%", 0.3),
        ("views.quarter_turns", "false", False),
        ("views.crop_scale", "0.2+0.9", (0.2, 0.9)),
        ("pretraining.lr", "3e-3", 0.003),
        ("pretraining.ema_decay", "none", None),
        ("pretraining.ema_decay", "0.99", 0.99),
        ("method.normalise_target", "true", True),
    ],
)
def test_a_level_is_read_as_the_setting_is_declared(path: str, text: str, expected: object) -> None:
    factor = factor_named(path)
    spec = factor.home(RunSpec())
    assert factor.applies(spec)
    place: object = factor.change(spec, factor.parse(text))
    for name in path.split("."):
        place = getattr(place, name)
    assert place == expected
    assert type(place) is type(expected)


@pytest.mark.parametrize(
    ("path", "scale", "values"),
    [
        ("pretraining.lr", "log", ()),
        ("backbone.depth", "log", ()),
        ("views.blur", "linear", ()),  # a share ends at 1
        ("method.mask_shape", "category", ("random", "block", "group")),
        ("method.normalise_target", "category", ("false", "true")),
        ("pretraining.ema_decay", "category", ()),  # none is no number
    ],
)
def test_scale_and_levels_come_from_the_declaration(
    path: str, scale: str, values: tuple[str, ...]
) -> None:
    assert (factor_named(path).scale, factor_named(path).values) == (scale, values)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("method.temprature", "did you mean 'method.temperature'"),
        ("metod.temperature", "did you mean 'method.temperature'"),
        ("views.blurr", "did you mean 'views.blur'"),
        ("temprature", "did you mean 'temperature'"),
        ("n_permutations", "by its path it is method.n_permutations"),
        ("folds.n_folds", "a path begins with a part of a run"),
        ("method.name", "is unknown"),
    ],
)
def test_a_name_that_is_mistyped_is_told_the_nearest(name: str, told: str) -> None:
    with pytest.raises(SpecError, match=re.escape(told)):
        factor_named(name)


def test_a_factor_without_levels_asks_for_some() -> None:
    for name in ("method.gap", "init"):
        with pytest.raises(SpecError, match="give them by --values"):
            built("--factor", name)


@pytest.mark.parametrize(
    ("name", "method", "backbone"),
    [
        ("mask_shape", "mae", "small_vit"),
        ("queue_size", "moco_v2", "small_cnn"),
        ("momentum", "moco_v2", "small_cnn"),
        ("patch_size", "simclr", "small_vit"),
        ("method.n_permutations", "jigsaw", "small_cnn"),
        ("method.views_per_step", "supervised", "small_cnn"),
        ("layer", "simclr", "small_cnn"),
    ],
)
def test_home_is_the_nearest_run_that_has_the_setting(
    name: str, method: str, backbone: str
) -> None:
    home = factor_named(name).home(RunSpec())
    assert (home.method.name, home.backbone.family) == (method, backbone)
    assert factor_named(name).applies(home)
    assert factor_named(name).home(home) == home, "who is at home stays"


def test_a_setting_that_the_run_has_keeps_its_method_and_backbone() -> None:
    spec = RunSpec.parse({"method": "byol", "backbone": "small_vit"})
    assert FACTORS["momentum"].home(spec) == spec
    assert FACTORS["patch_size"].home(spec) == spec


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("method.temperature", (0.1, 0.5)),
        ("positives", ("image", "patient")),
        ("pretraining.lr", (0.001, 0.01)),
        ("views.blur", (0.0, 0.5)),
        *((name, FACTORS[name].values[:2]) for name in ("colour", "crop_scale", "view_rotation")),
        *((name, FACTORS[name].values[:2]) for name in ("pool", "pool_size", "pretrain_epochs")),
    ],
)
def test_one_control_stands_beside_all_levels_of_what_only_pretraining_reads(
    name: str, values: tuple[str | float, ...]
) -> None:
    cells = Study(name="s", levels={name: values}).cells()
    assert [c.name for c in cells if c.method == "no_pretext"] == [
        "method=no_pretext,label_fraction=1.0"
    ]
    assert len(cells) == 3


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("backbone.first_width", (8, 16)),
        ("protocol.strength", (0.1, 1.0)),
        ("init", ("random", "weights.safetensors")),
    ],
)
def test_the_control_has_every_level_of_what_all_arms_read(
    name: str, values: tuple[str | float, ...]
) -> None:
    study = Study(name="s", levels={name: values})
    cells = study.cells()
    assert len(cells) == 4
    assert None not in study.compared(cells).values()


def test_colour_multiplies_every_change_of_colour_and_nothing_else() -> None:
    spec = RunSpec.parse({"views": "imagenet"})
    change = FACTORS["colour"].change
    half, none = change(spec, 0.5).views, change(spec, 0.0).views
    assert (half.brightness, half.hue, half.grayscale) == pytest.approx((0.4, 0.1, 0.1))
    assert (half.blur, half.crop_scale) == (spec.views.blur, spec.views.crop_scale)
    assert not any((none.brightness, none.contrast, none.saturation, none.hue, none.grayscale))
    assert change(spec, 1.0) == spec
    with pytest.raises(SpecError, match=r"colour 1\.5: these views allow a strength of 0 to 1\.25"):
        change(spec, 1.5)


def test_crop_scale_moves_the_lower_end_only() -> None:
    assert FACTORS["crop_scale"].change(RunSpec(), 0.08).views.crop_scale == (0.08, 1)


def test_turns_are_a_ladder_of_orientations() -> None:
    change = FACTORS["view_rotation"].change
    seen = [change(RunSpec(), value).views for value in ("none", "half", "quarter")]
    assert [(v.vertical_flip > 0, v.quarter_turns) for v in seen] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    with pytest.raises(SpecError, match="did you mean 'quarter'"):
        change(RunSpec(), "quater")


def test_lengths_before_a_stable_phase_keep_the_warmup_of_the_baseline() -> None:
    change = FACTORS["pretrain_epochs"].change
    plain = RunSpec()
    assert change(plain, 40).pretraining == plain.pretraining.replace(epochs=40)
    stable = plain.replace(pretraining=plain.pretraining.replace(schedule="stable_decay"))
    assert {change(stable, n).pretraining.warmup_epochs for n in (5, 20, 40)} == {2.0}
    own = stable.replace(pretraining=stable.pretraining.replace(warmup_epochs=1))
    assert change(own, 40).pretraining.warmup_epochs == 1


def test_weights_to_start_from_are_a_level_beside_random_ones(tmp_path: Path) -> None:
    factor, file = FACTORS["init"], tmp_path / "byol" / "weights.safetensors"
    value = factor.parse(str(file))
    assert factor.change(RunSpec(), value).init == file
    assert factor.change(RunSpec(init=file), "random").init is None
    assert [factor.show(v) for v in ("random", value)] == ["random", "byol/weights"]


Pretend = Callable[[Study], tuple[Plan, Vault]]


def test_a_path_is_a_safe_name_in_table_figure_and_ledger(
    pretend: Pretend, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    levels = {"method.temperature": (0.1, 0.5), "label_fraction": (0.5, 1.0)}
    study = Study.parse({"name": "method.temperature", "levels": levels, "baseline": SMALL})
    plan, vault = pretend(study)
    collect(plan, vault).save(tmp_path / "table")
    table = TrialTable.load(tmp_path / "table")
    assert set(table.cells["method.temperature"].dropna()) == {0.1, 0.5}
    assert FactorCurve("method.temperature").name == "factor_method_temperature"
    target = Target(figures=tmp_path / "figures", tables=None)
    files = [path.name for path in write(table, target, only=["factor_method_temperature"])]
    assert {name.partition(".")[0].removesuffix("_single") for name in files} >= {
        "factor_method_temperature"
    }
    assert len(set(files)) == len(files) > 3
    planned = next(p for p in plan.trials if p.trial.cell.method == "simclr")
    told = trial_params(planned)
    assert told["method.temperature"] == told["spec.method.temperature"] == "0.1"
    params = {**told, **study_params(study, options())}
    assert all(re.fullmatch(r"[/\w.\- :]+", name) for name in params), "what MLflow accepts"


SMALL = {
    "cohort": {"source": "synthetic", "n_patients": 30, "image_px": 32},
    "folds": {"n_folds": 2},
    "image_px": 32,
}
