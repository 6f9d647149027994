"""The published numbers of real cohorts, where their files are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from melssl.audit.audit import AuditSpec, audit
from melssl.data.decode import decode
from melssl.data.pixels import PixelStore
from melssl.data.sources import SOURCES
from melssl.data.sources.siim_isic import read_train_table

DATA = Path(os.environ.get("MELSSL_DATA", Path(__file__).parents[4] / "shared/data"))


def _root(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is absent; set MELSSL_DATA to the folder of real data")
    return DATA / name


def test_ham10000_has_its_published_numbers(tmp_path: Path) -> None:
    data = {"root": _root("ham10000")}
    cohort = SOURCES["ham10000"].parse(data).load(tmp_path)
    assert len(cohort) == 10_015
    assert cohort.frame["patient_id"].nunique() == 7_470
    assert cohort.frame["target"].sum() == 1_113
    assert cohort.frame["age"].isna().sum() == 57
    seven = SOURCES["ham10000"].parse(data | {"outcome": "diagnosis"}).load(tmp_path)
    assert np.bincount(seven.frame["target"]).tolist() == [327, 514, 1099, 115, 1113, 6705, 142]


def test_siim_train_table_has_its_published_numbers_without_duplicates() -> None:
    table = read_train_table(_root("siim_isic_2020"))
    assert len(table) == 32_701
    assert table["target"].sum() == 581
    assert table["patient_id"].nunique() == 2_056
    assert table["sample_id"].is_unique


def test_siim_names_its_425_duplicate_pairs_by_list_by_lesion_and_by_mark(tmp_path: Path) -> None:
    data = {"root": _root("siim_isic_2020"), "missing_files": "keep"}
    cohort = SOURCES["siim_isic"].parse(data).load(tmp_path)
    assert not cohort.has_images
    pairs: dict[str, set[frozenset[str]]] = {}
    for pair in cohort.declared:
        pairs.setdefault(pair.by.partition(", ")[2], set()).add(
            frozenset((pair.first, pair.second))
        )
    assert {by: len(found) for by, found in pairs.items()} == {"": 425, "lesion_id": 425}
    assert len(pairs[""] & pairs["lesion_id"]) == 417  # eight pairs bear two lesion ids each
    marked = SOURCES["siim_isic"].parse(data | {"marks_csv": "train_cdeotte.csv"}).load(tmp_path)
    left_out = set(cohort.frame["sample_id"]) - set(marked.frame["sample_id"])
    assert len(marked) == 32_692
    assert len(left_out) == 9  # beyond the 425: the other eight of one lesion, and one alone
    others = set().union(*(pairs["lesion_id"] - pairs[""]))
    assert len(left_out & others) == 8
    assert (cohort.frame.groupby("lesion_id")["patient_id"].nunique() == 1).all()


def test_the_siim_test_images_that_are_here_form_an_unlabelled_pool(tmp_path: Path) -> None:
    root = _root("siim_isic_2020")
    n_files = len(list((root / "jpeg/test").glob("*.jpg")))
    data = {"root": root, "test_images": "unlabelled", "missing_files": "leave_out"}
    cohort = SOURCES["siim_isic"].parse(data).load(tmp_path)
    assert (cohort.frame["target"] == -1).sum() == n_files
    train = read_train_table(root)
    assert not set(cohort.frame["patient_id"]) & set(train["patient_id"])


def test_isic2017_is_read_by_column_names_and_stored(tmp_path: Path) -> None:
    data = {
        "root": _root("isic2017"),
        "image_column": "file",
        "patient_column": "group",
        "label_column": "melanoma",
        "clinical": ["age_approximate", "sex"],
        "missing_values": ["", "unknown"],
    }
    cohort = SOURCES["csv_folder"].parse(data).load(tmp_path)
    assert len(cohort) == 2_750
    assert cohort.frame["patient_id"].nunique() == 2_726
    assert cohort.frame["target"].sum() == 521
    assert cohort.frame["age_approximate"].dtype == np.float64
    store = PixelStore.build(cohort, tmp_path / "store", size_px=32, progress=False)
    assert store.excluded == {}
    path = cohort.root / cohort.frame["path"].iloc[1000]
    np.testing.assert_array_equal(store.pixels[1000], decode(path, 32, "crop"))


def test_the_audit_of_siim_tests_images_finds_the_two_patients_under_two_ids(
    tmp_path: Path,
) -> None:
    root = _root("siim_isic_2020")
    if len(list((root / "jpeg/test").glob("*.jpg"))) < 5_000:
        pytest.skip(f"fewer than 5,000 test images in {root}")
    data = {"root": root, "test_images": "unlabelled", "missing_files": "leave_out"}
    found = audit(SOURCES["siim_isic"].parse(data).load(tmp_path), AuditSpec(images="bytes"))
    assert sorted(set(found.units.values())) == ["IP_2799140+IP_4181913", "IP_5758416+IP_8179715"]
    assert found.numbers.pairs["bytes"].across == 7


def test_the_audit_of_siim_training_data_counts_its_pairs_without_any_image(tmp_path: Path) -> None:
    data = {"root": _root("siim_isic_2020"), "missing_files": "keep"}
    found = audit(SOURCES["siim_isic"].parse(data).load(tmp_path), AuditSpec())
    by_list, by_lesion = found.numbers.declared.values()
    assert (by_list.one, by_list.both) == (425, 0)
    assert (by_lesion.one, by_lesion.both) == (417, 8)
    assert found.numbers.redundant == 8
    assert found.groups == ()


def test_the_audit_of_isic2017_finds_ten_groups_in_two_official_splits(tmp_path: Path) -> None:
    data = {"root": _root("isic2017"), "image_column": "file", "split_column": "split"}
    data |= {"label_column": "melanoma"}
    by_group = SOURCES["csv_folder"].parse(data | {"patient_column": "group"}).load(tmp_path)
    assert len(audit(by_group, AuditSpec(images="off")).straddles) == 10
    by_image = SOURCES["csv_folder"].parse(data).load(tmp_path)
    found = audit(by_image, AuditSpec(images="bytes"))
    assert len(found.straddles) == 4  # the other six are new photographs of one lesion
    assert found.conflicts == ()
