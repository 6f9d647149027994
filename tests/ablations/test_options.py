"""The command line: what it builds, and errors that offer the nearest name."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ablations.__main__ import main
from ablations.design import Study
from ablations.options import (
    RunOptions,
    add_run_options,
    add_study_options,
    run_options,
    study_from,
)
from melssl.data.views import VIEW_PRESETS, ViewRecipe
from melssl.errors import SpecError


def build(*arguments: str) -> Study:
    parser = argparse.ArgumentParser()
    add_study_options(parser, factor=True)
    return study_from(parser.parse_args(arguments), "label_fraction")


def test_empty_values_mean_the_presets_own() -> None:
    empty = ("--factor", "", "--values", "", "--fractions", "", "--folds", "", "--preset", "")
    assert build(*empty) == build()
    assert build().baseline.cohort.source == "synthetic"


@pytest.mark.parametrize(
    ("source", "image_px", "views", "protocol"),
    [
        ("synthetic_volumes", 32, "volume", "linear_probe"),
        ("synthetic_clips", 32, "clip", "linear_probe"),
        ("ham10000", 48, "medical", "linear_probe"),
        ("pocus_lung_ultrasound", 32, "clip", "linear_probe"),
        ("msd_hippocampus", 32, None, "segmentation"),
    ],
)
def test_a_source_without_a_preset_gets_the_size_and_views_of_its_kind(
    source: str, image_px: int, views: str | None, protocol: str
) -> None:
    baseline = build("--source", source).baseline
    assert baseline.image_px == image_px
    assert baseline.protocol.name == protocol
    expected = ViewRecipe(native_scale=True) if views is None else VIEW_PRESETS[views]
    assert baseline.views == expected


@pytest.mark.parametrize(
    "words",
    [("--data-root=~/images",), ("--data-root", "~/images"), ("--set", "cohort.root=~/images")],
)
def test_the_home_folder_may_be_written_as_shells_do(words: tuple[str, ...]) -> None:
    cohort = build("--source", "ham10000", *words).baseline.cohort
    assert cohort.root == Path.home() / "images"


def test_a_tilde_before_nobodys_name_is_a_files() -> None:
    cohort = build("--source", "ham10000", "--set", "cohort.root=~no body/images").baseline.cohort
    assert cohort.root == Path("~no body/images")


def test_methods_of_other_kinds_of_samples_are_not_said_to_be_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    build("--factor", "method", "--source", "synthetic_clips")
    assert "need patch tokens: mae; " in capsys.readouterr().err


def test_mask_ratio_brings_a_method_and_a_backbone_that_have_one() -> None:
    study = build("--factor", "mask_ratio", "--values", "0.5,75%")
    assert study.baseline.method.name == "mae"
    assert study.baseline.backbone.family == "small_vit"
    assert study.levels["mask_ratio"] == (0.5, 0.75)


def test_two_factors_are_crossed() -> None:
    study = build("--factor", "mask_ratio,pretrain_epochs", "--values", "0.5,0.75;1,2")
    n_control, n_metadata = 5, 2 * 5
    assert len(study.cells()) == n_control + n_metadata + 4 * 5


def test_metadata_stands_beside_every_study_unless_it_is_turned_off() -> None:
    assert build().references == ("metadata_clinical", "metadata_all")
    assert build("--baselines", "none").references == ()
    assert build("--baselines", "metadata_all").references == ("metadata_all",)


def test_a_study_of_metadata_has_no_control_that_would_see_images() -> None:
    study = build("--factor", "metadata_columns", "--values", "clinical,resolution+bytes")
    assert (study.control, study.references) == (None, ())
    columns = {cell.spec.method.columns for cell in study.cells()}
    assert columns == {("clinical",), ("resolution", "bytes")}


def test_folds_are_dealt_as_often_as_asked() -> None:
    assert build("--repeats", "5").n_repeats == 5
    with pytest.raises(SpecError, match="--repeats '0'"):
        build("--repeats", "0")


def test_fractions_read_percent() -> None:
    assert build("--fractions", "5%,0.5,100%").levels["label_fraction"] == (0.05, 0.5, 1.0)
    for wrong in ("many", "200%", "6.5"):
        with pytest.raises(SpecError, match="--fractions: "):
            build("--fractions", wrong)


def test_values_of_label_fraction_win_over_fractions() -> None:
    study = build("--factor", "label_fraction", "--values", "0.5")
    assert study.levels["label_fraction"] == (0.5,)


def test_several_methods_are_levels() -> None:
    study = build("--method", "simclr,mae", "--set", "backbone=small_vit")
    assert study.levels["method"] == ("simclr", "mae")
    assert study.overrides == ("backbone=small_vit",)


def test_a_folder_of_data_is_kept_absolute() -> None:
    study = build("--source", "ham10000", "--data-root", ".")
    assert study.baseline.cohort.root.is_absolute()
    assert study.name == "label_fraction-ham10000"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--factor", "mask_ration"), "did you mean 'mask_ratio'"),
        (("--preset", "dem"), "did you mean 'demo'"),
        (("--source", "ham1000"), "did you mean 'ham10000'"),
        (("--method", "simcrl"), "did you mean 'simclr'"),
        (("--set", "pretraining.epoch=2"), "did you mean 'epochs'"),
        (("--folds", "1"), "n_folds"),
        (("--folds", "x"), "whole number"),
        (("--draws", "0"), "whole number"),
        (("--factor", "mask_ratio", "--values", "a"), "could not convert"),
        (("--factor", "mask_ratio,views", "--values", "0.5"), "2 list"),
        (("--name", "a/b"), "pattern"),
    ],
)
def test_a_bad_option_is_an_error_that_helps(arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        build(*arguments)


def test_workers_share_the_cores() -> None:
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    options = run_options(parser.parse_args(["--workers", "1"]))
    assert options.workers == 1
    assert options.threads >= 1
    with pytest.raises(SpecError, match="loky"):
        run_options(parser.parse_args(["--backend", "lokey"]))


def test_a_watchdog_warns_unless_told_otherwise() -> None:
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    assert run_options(parser.parse_args([])).watch == "warn"
    assert run_options(parser.parse_args(["--watch", "stop"])).watch == "stop"
    with pytest.raises(SpecError, match="did you mean 'warn'"):
        run_options(parser.parse_args(["--watch", "warm"]))


def test_an_error_is_printed_and_not_raised(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--factor", "mask_ration"]) == 2
    assert "did you mean 'mask_ratio'" in capsys.readouterr().err


def test_status_without_a_study_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 2
    assert "python -m ablations run" in capsys.readouterr().err


def run_of(*arguments: str) -> RunOptions:
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    return run_options(parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45min", 2700), ("1.5 h", 5400), ("2d", 172800)]
)
def test_a_time_limit_has_a_unit(text: str, seconds: float) -> None:
    assert run_of("--stage-limit", text).stage_limit == seconds


@pytest.mark.parametrize("text", ["2", "0h", "soon", "-1h"])
def test_a_time_without_one_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="such as 90s"):
        run_of(f"--stage-limit={text}")


def test_limits_and_clusters_need_a_backend_that_has_them() -> None:
    with pytest.raises(SpecError, match="--workers 1"):
        run_of("--backend", "sequential", "--stage-limit", "1h")
    with pytest.raises(SpecError, match="--backend dask"):
        run_of("--scheduler", "tcp://there:8786")
    there = run_of("--scheduler", "tcp://there:8786", "--backend", "dask")
    assert (there.scheduler, there.threads) == ("tcp://there:8786", 1)
    assert run_of("--threads", "3").threads == 3


def test_a_stage_may_be_given_no_second_try() -> None:
    assert (run_of().retries, run_of("--retries", "0").retries) == (2, 0)
    with pytest.raises(SpecError, match="whole number from 0"):
        run_of("--retries=-1")
