"""Preparing: the audit before every study, and pools that never hold a test patient."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from melssl.errors import CohortError, PatientOverlapError, SpecError
from melssl.pool import pool
from melssl.prepared import Prepared, prepare
from melssl.settings import with_overrides
from melssl.spec import RunSpec

PX, N_PATIENTS = 24, 12


def cohort_of(folder: Path, first_seed: int) -> dict[str, object]:
    """Write two images each of 12 patients, every second of them ill, and name the source."""
    folder.mkdir()
    rows = []
    for patient in range(N_PATIENTS):
        for view in range(2):
            rng = np.random.default_rng(first_seed + 2 * patient + view)
            name = f"s{first_seed}-{patient}-{view}.png"
            pixels = rng.integers(0, 255, (PX, PX, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name)
            rows.append({"image": name, "patient": f"{first_seed}p{patient}", "ill": patient % 2})
    pd.DataFrame(rows).to_csv(folder / "index.csv", index=False)
    columns = {"patient_column": "patient", "label_column": "ill"}
    return {"source": "csv_folder", "root": str(folder), **columns}


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    cohort = cohort_of(tmp_path / "own", 0)
    return RunSpec.parse({"cohort": cohort, "image_px": 16, "folds": {"n_folds": 3}})


def repeat(spec: RunSpec, original: str, copy: str) -> None:
    """Put the picture ``original`` in the place of ``copy``."""
    assert spec.cohort.root is not None
    shutil.copy(spec.cohort.root / original, spec.cohort.root / copy)


def apart(spec: RunSpec, cache: Path) -> tuple[str, str]:
    """Return patients 0 and another of the same outcome that another fold tests."""
    folds = prepare(spec, cache).folds.folds
    home = next(fold for fold in folds if "0p0" in fold.test)
    return "0p0", min(p for p in home.train if int(p.partition("p")[2]) % 2 == 0)


def test_two_patients_with_one_picture_become_one(spec: RunSpec, tmp_path: Path) -> None:
    first, second = apart(spec, tmp_path / "before")
    repeat(spec, "s0-0-0.png", f"s0-{second.partition('p')[2]}-0.png")
    made = prepare(spec, tmp_path / "cache")
    names = set(made.cohort.frame["patient_id"])
    assert f"{first}+{second}" in names
    assert not {first, second} & names
    assert any("linked patients" in note for note in made.cohort.notes)
    again = prepare(spec, tmp_path / "cache", decode=False)
    assert again.cohort.digest == made.cohort.digest, "a plan after the audit knows what it found"


def test_a_study_refuses_to_start_on_what_may_not_be_merged(spec: RunSpec, tmp_path: Path) -> None:
    first, second = apart(spec, tmp_path / "before")
    repeat(spec, "s0-0-0.png", f"s0-{second.partition('p')[2]}-0.png")
    with pytest.raises(PatientOverlapError, match=first):
        prepare(with_overrides(spec, ["audit.merge=false"]), tmp_path / "cache")


def test_a_pool_may_not_hold_an_unlabelled_twin_of_a_test_patient(
    spec: RunSpec, tmp_path: Path
) -> None:
    table = tmp_path / "own" / "index.csv"
    rows = pd.read_csv(table, dtype=str)
    rows.loc[rows["patient"] == "0p3", "ill"] = ""
    rows.to_csv(table, index=False)
    repeat(spec, "s0-0-0.png", "s0-3-0.png")
    known = spec.replace(cohort=spec.cohort.replace(empty_label="unlabelled"))
    apart = with_overrides(known, ["audit.merge=false"])
    prepare(apart, tmp_path / "cache")  # nobody learns from the unlabelled patient
    with pytest.raises(PatientOverlapError, match="0p3"):
        prepare(apart.replace(pool="external"), tmp_path / "cache")


def test_a_plan_reads_no_picture_and_says_so(spec: RunSpec, tmp_path: Path) -> None:
    assert prepare(spec, tmp_path / "cache", decode=False).audit is None
    assert not (tmp_path / "cache" / "pixels").exists()


@pytest.fixture
def wide(spec: RunSpec, tmp_path: Path) -> RunSpec:
    """Add an external cohort of which one picture is the first of patient 0."""
    external = cohort_of(tmp_path / "other", 1000)
    repeat(spec, "s0-0-0.png", "../other/s1000-5-1.png")
    return spec.replace(pool="external", external=external)


def test_an_external_picture_of_a_test_patient_is_in_no_pool_of_that_fold(
    wide: RunSpec, tmp_path: Path
) -> None:
    made = prepare(wide, tmp_path / "cache")
    for fold in made.folds.folds:
        seen = pool(wide.replace(fold=fold.index), made)
        assert not set(seen.patients) & fold.test
        linked = {f"external:s1000-5-{view}.png" for view in range(2)}
        assert bool(linked & set(seen.sample_ids)) == ("0p0" not in fold.test)
        assert len(seen.rows) == 2 * len(fold.train) + 2 * N_PATIENTS - 2 * ("0p0" in fold.test)


def test_the_rows_of_a_pool_are_those_of_its_images(wide: RunSpec, tmp_path: Path) -> None:
    made = prepare(wide, tmp_path / "cache")
    seen = pool(wide, made)
    images, sizes = made.images(), len(made.cohort)
    assert seen.rows.max() >= sizes, "the pool holds external images"
    mixed = np.array([seen.rows[-1], 0, seen.rows[-2]])
    batch = images.batch(mixed)
    for place, row in enumerate(mixed):
        assert np.array_equal(batch[place], images.batch(np.array([row]))[0])


def test_tuning_within_a_fold_never_sees_external_pictures_of_its_test_patients(
    wide: RunSpec, tmp_path: Path
) -> None:
    whole = prepare(wide, tmp_path / "cache")
    outer = next(fold for fold in whole.folds.folds if "0p0" in fold.test)
    inner = wide.replace(
        within={"folds": wide.folds.plain(), "fold": outer.index}, folds={"n_folds": 2}
    )
    seen = pool(inner, prepare(inner, tmp_path / "cache"))
    assert not set(seen.patients) & outer.test
    assert "external:s1000-5-1.png" not in set(seen.sample_ids)


def test_an_external_pool_without_anything_external_is_refused(
    spec: RunSpec, tmp_path: Path
) -> None:
    made = prepare(spec, tmp_path / "cache")
    with pytest.raises(SpecError, match=r"external\.source"):
        pool(spec.replace(pool="external"), made)


def test_a_table_without_images_has_folds_and_shows_no_pixel(spec: RunSpec, tmp_path: Path) -> None:
    for image in (tmp_path / "own").glob("*.png"):
        image.unlink()
    cohort = spec.cohort.replace(missing_files="keep")
    made: Prepared = prepare(spec.replace(cohort=cohort), tmp_path / "cache")
    assert len(made.folds.folds) == 3
    with pytest.raises(CohortError, match="without images"):
        made.images().batch(np.array([0]))
