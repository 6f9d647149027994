"""Every source keeps one contract; each official layout is read as published."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import melssl.data.sources
from melssl.data.cohort import UNLABELLED, Cohort, SamePicture
from melssl.data.sources import SOURCES
from melssl.data.sources.base import SourceConfig
from melssl.data.sources.siim_isic import read_train_table
from melssl.errors import CohortError, SpecError


def _image(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade % 256, 90, 60)).save(path)


def _siim(root: Path) -> dict[str, object]:
    rows = [
        (f"I{i}", f"P{i // 2}", "male" if i % 3 else "", 40 + i if i else "", "torso", i % 2)
        for i in range(6)
    ]
    columns = ["image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge"]
    table = pd.DataFrame(rows, columns=[*columns, "target"])
    root.mkdir(parents=True, exist_ok=True)
    table.to_csv(root / "train.csv", index=False)
    test = table.drop(columns="target").replace({f"P{i}": f"Q{i}" for i in range(3)})
    test.assign(image_name="T" + test["image_name"]).to_csv(root / "test.csv", index=False)
    duplicates = pd.DataFrame({"image_name_1": ["I0"], "image_name_2": ["I5"]})
    duplicates.to_csv(root / "ISIC_2020_Training_Duplicates.csv", index=False)
    sizes = table[["image_name"]].assign(width=600, height=450).iloc[:4]
    sizes.to_csv(root / "sizes.csv", index=False)
    for i in range(6):
        _image(root / f"jpeg/train/I{i}.jpg", i)
        _image(root / f"jpeg/test/TI{i}.jpg", i)
    return {"source": "siim_isic", "root": root}


def _ham(root: Path) -> dict[str, object]:
    diagnoses = ["mel", "nv", "bkl", "akiec", "df", "vasc", "bcc", "mel"]
    rows = [
        (f"L{i // 2}", f"H{i}", dx, "histo", "" if i == 1 else 50.0, "unknown", "back")
        for i, dx in enumerate(diagnoses)
    ]
    names = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    root.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=names).to_csv(root / "HAM10000_metadata.csv", index=False)
    for i in range(len(rows)):
        _image(root / f"HAM10000_images_part_{1 + i % 2}/H{i}.jpg", i)
    return {"source": "ham10000", "root": root}


def _csv(root: Path) -> dict[str, object]:
    for i in range(5):
        _image(root / f"pictures/c{i}.png", i)
    rows = [(f"c{i}", f"0{i // 2}", ["10", "9"][i % 2], 30 + i, "x" if i else "") for i in range(5)]
    table = pd.DataFrame(rows, columns=["image", "person", "grade", "age", "camera"])
    table.to_csv(root / "index.csv", index=False)
    return {
        "source": "csv_folder",
        "root": root,
        "images": "pictures",
        "suffix": ".png",
        "patient_column": "person",
        "label_column": "grade",
        "clinical": ["age"],
        "acquisition": ["camera"],
    }


def _folder(root: Path) -> dict[str, object]:
    for i in range(4):
        _image(root / ["nevus", "melanoma"][i % 2] / f"P{i // 2}_{i}.png", i)
    return {"source": "image_folder", "root": root, "patient_pattern": "^(P[0-9]+)_"}


def _nifti(path: Path) -> None:
    import nibabel
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.arange(64, dtype=np.uint8).reshape(4, 4, 4), None), path)


def _two_folders(root: Path, source: str = "nifti_folder") -> dict[str, object]:
    for i in range(3):
        _nifti(root / f"images/P{i // 2}_{i}.nii")
        _nifti(root / f"labels/P{i // 2}_{i}.nii")
    return {"source": source, "root": root, "structures": ["head", "tail"]}


def _hippocampus(root: Path) -> dict[str, object]:
    return _two_folders(root, "msd_hippocampus")


def _decathlon(root: Path) -> dict[str, object]:
    data = _two_folders(root, "decathlon")
    files = [f"P{i // 2}_{i}.nii" for i in range(3)]
    entries = [{"image": f"./images/{name}", "label": f"./labels/{name}"} for name in files]
    (root / "dataset.json").write_text(json.dumps({"training": entries}))
    return data


def _nifti_table(root: Path) -> dict[str, object]:
    for i in range(4):
        _nifti(root / f"v{i}.nii")
    rows = [(f"v{i}.nii", f"P{i // 2}", ["ill", "well"][i % 2]) for i in range(4)]
    table = pd.DataFrame(rows, columns=["file", "patient", "label"])
    table.to_csv(root / "index.csv", index=False)
    return {"source": "nifti_table", "root": root}


def _made_volumes(_: Path) -> dict[str, object]:
    return {"source": "synthetic_volumes", "n_patients": 4, "side_mm": 16}


def _synthetic(_: Path) -> dict[str, object]:
    return {"source": "synthetic", "n_patients": 12, "image_px": 16}


def _videos(root: Path) -> dict[str, object]:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(4):
        np.save(root / f"v{i}.npy", np.full((3, 8, 8), 40 * i, np.uint8))
    rows = [(f"v{i}.npy", f"P{i // 2}", "ab"[i % 2]) for i in range(4)]
    table = pd.DataFrame(rows, columns=["file", "patient", "label"])
    table.to_csv(root / "index.csv", index=False)
    return {"source": "video_folder", "root": root}


def _clip_arrays(root: Path) -> dict[str, object]:
    data = _videos(root)
    np.savez(root / "clips.npz", clips=np.zeros((4, 3, 8, 8), np.uint8))
    return data | {"source": "clip_arrays"}


def _pocus(root: Path) -> dict[str, object]:
    root.mkdir(parents=True, exist_ok=True)
    findings = ["regular", "pneumonia", "covid", "viral"]
    rows = [(f"{i}.gif", "convex", findings[i], 20, 8, 8, 2.0, i // 2 + 1.0) for i in range(4)]
    columns = ["file", "probe", "label", "n_frames", "height", "width", "Source ID", "group"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "index.csv", index=False)
    np.savez(root / "clips_16x96x96.npz", clips=np.zeros((4, 3, 8, 8), np.uint8))
    return {"source": "pocus_lung_ultrasound", "root": root}


def _made_clips(_: Path) -> dict[str, object]:
    return {"source": "synthetic_clips", "n_patients": 4, "n_frames": 4, "image_px": 16}


EXAMPLES: dict[str, Callable[[Path], dict[str, object]]] = {
    "synthetic": _synthetic,
    "siim_isic": _siim,
    "ham10000": _ham,
    "csv_folder": _csv,
    "image_folder": _folder,
    "synthetic_volumes": _made_volumes,
    "msd_hippocampus": _hippocampus,
    "decathlon": _decathlon,
    "nifti_folder": _two_folders,
    "nifti_table": _nifti_table,
    "synthetic_clips": _made_clips,
    "pocus_lung_ultrasound": _pocus,
    "video_folder": _videos,
    "clip_arrays": _clip_arrays,
}
UNPACKED = ("clip_arrays", "pocus_lung_ultrasound")  # which lie below the cache, a file per clip
ON_DISK = tuple(
    name for name in EXAMPLES if not name.startswith("synthetic") and name not in UNPACKED
)
SEGMENTED = ("msd_hippocampus", "decathlon", "nifti_folder")  # volumes of one class, with masks
CLASSIFIED = tuple(name for name in ON_DISK if name not in SEGMENTED)


def _load(data: dict[str, object], **changes: object) -> Cohort:
    settings = SOURCES[str(data["source"])].parse(data | changes)
    return settings.load(Path("no cache is needed"))


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_source_gives_the_same_valid_cohort_twice(name: str, tmp_path: Path) -> None:
    settings = SOURCES[name].parse(EXAMPLES[name](tmp_path / "data"))
    cohort = settings.load(tmp_path / "cache")
    assert cohort.name == name
    assert set(cohort.frame["target"]) <= {UNLABELLED, *range(len(cohort.classes))}
    assert cohort.frame["sample_id"].is_unique
    assert {*cohort.clinical, *cohort.acquisition} <= set(cohort.frame)
    assert settings.load(tmp_path / "cache").digest == cohort.digest


@pytest.mark.parametrize("name", CLASSIFIED)
def test_a_source_groups_images_by_patient_and_knows_their_sizes(name: str, tmp_path: Path) -> None:
    cohort = _load(EXAMPLES[name](tmp_path))
    assert len(cohort.classes) >= 2
    assert set(cohort.frame["target"]) >= {0, 1}
    assert cohort.frame["patient_id"].nunique() < len(cohort)
    assert (cohort.frame["bytes"] > 0).all()
    assert "bytes" in cohort.acquisition


@pytest.mark.parametrize("name", ON_DISK)
def test_a_cohort_is_the_same_wherever_it_lies(name: str, tmp_path: Path) -> None:
    data = EXAMPLES[name](tmp_path / "here")
    digest = _load(data).digest
    assert _load(data).digest == digest
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert _load(data, root=tmp_path / "there").digest == digest


@pytest.mark.parametrize("name", ON_DISK)
@pytest.mark.parametrize("root", [None, "not/there"])
def test_a_missing_root_is_named(name: str, root: str | None, tmp_path: Path) -> None:
    data = EXAMPLES[name](tmp_path)
    with pytest.raises(CohortError, match=f"{name}: .*set the source's root"):
        _load(data, root=root)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_settings_of_a_source_travel_as_plain_data(name: str) -> None:
    settings = SOURCES[name].parse({"source": name})
    assert SOURCES[name].parse(settings.plain()) == settings
    assert settings.source == name
    assert settings.label
    with pytest.raises(SpecError, match="did you mean 'root'"):
        SOURCES[name].parse({"source": name, "roott": "x"})


def test_no_source_is_left_out_of_the_list() -> None:
    found = set()
    for module in pkgutil.iter_modules(melssl.data.sources.__path__):
        members = vars(importlib.import_module(f"melssl.data.sources.{module.name}")).values()
        found |= {m for m in members if inspect.isclass(m) and issubclass(m, SourceConfig)}
    named = {source for source in found if not source.model_fields["source"].is_required()}
    assert named == set(SOURCES.values())


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("siim_isic", "train.csv"),
        ("ham10000", "HAM10000_metadata.csv"),
        ("csv_folder", "index.csv"),
    ],
)
class TestTables:
    """What every source does that reads a table."""

    def test_the_order_of_rows_changes_nothing(self, name: str, table: str, tmp_path: Path) -> None:
        data = EXAMPLES[name](tmp_path)
        digest = _load(data).digest
        rows = pd.read_csv(tmp_path / table, dtype=str)
        rows.iloc[::-1].to_csv(tmp_path / table, index=False)
        assert _load(data).digest == digest

    def test_a_missing_table_is_named(self, name: str, table: str, tmp_path: Path) -> None:
        data = EXAMPLES[name](tmp_path)
        (tmp_path / table).unlink()
        with pytest.raises(CohortError, match=f"{table}: cannot be read .*No such file"):
            _load(data)

    @pytest.mark.parametrize(
        "content", [b"", b"a,b\n1,2,3\n", b"a,b\n1,2\n1,2,3,4,5\n", b"a,b\n\xff\xfe,1\n"]
    )
    def test_a_broken_table_is_named(
        self, name: str, table: str, content: bytes, tmp_path: Path
    ) -> None:
        data = EXAMPLES[name](tmp_path)
        (tmp_path / table).write_bytes(content)
        with pytest.raises(CohortError, match=f"{table}: cannot be read as a CSV file"):
            _load(data)

    def test_all_missing_columns_are_named(self, name: str, table: str, tmp_path: Path) -> None:
        data = EXAMPLES[name](tmp_path)
        columns = pd.read_csv(tmp_path / table, dtype=str).columns[:2].tolist()
        (tmp_path / table).write_text("other\nx\n")
        with pytest.raises(CohortError, match=r"\(found: other\)") as caught:
            _load(data)
        assert all(f"column {column!r} is missing" in str(caught.value) for column in columns)

    def test_a_table_without_rows_is_refused(self, name: str, table: str, tmp_path: Path) -> None:
        data = EXAMPLES[name](tmp_path)
        header = (tmp_path / table).read_text().splitlines()[0]
        (tmp_path / table).write_text(header + "\n")
        with pytest.raises(CohortError, match="the table has no rows"):
            _load(data)

    def test_faults_of_rows_are_told_together(self, name: str, table: str, tmp_path: Path) -> None:
        data = EXAMPLES[name](tmp_path)
        images, patient, label = {
            "siim_isic": ("image_name", "patient_id", "target"),
            "ham10000": ("image_id", "lesion_id", "dx"),
            "csv_folder": ("image", "person", "grade"),
        }[name]
        rows = pd.read_csv(tmp_path / table, dtype=str)
        rows.loc[1, images] = rows.loc[2, images]
        rows.loc[3, label] = "odd"
        rows.loc[4, patient] = ""
        rows.loc[0, images] = "../../../away"
        rows.to_csv(tmp_path / table, index=False)
        with pytest.raises(CohortError) as caught:
            _load(data, **({"classes": ["9", "10"]} if name == "csv_folder" else {}))
        text = str(caught.value)
        for part in ("stands more than once", "target 'odd'", "patient_id is empty", "leave the"):
            assert part in text


def test_siim_drops_the_second_of_each_official_duplicate(tmp_path: Path) -> None:
    cohort = _load(_siim(tmp_path))
    assert cohort.frame["sample_id"].tolist() == ["I0", "I1", "I2", "I3", "I4"]
    assert cohort.notes == ("1 official duplicates left out",)
    assert cohort.classes == ("benign", "melanoma")
    assert cohort.frame["age"].isna().tolist() == [True, False, False, False, False]


def test_siim_without_the_duplicates_file_says_so(tmp_path: Path) -> None:
    data = _siim(tmp_path)
    (tmp_path / "ISIC_2020_Training_Duplicates.csv").unlink()
    cohort = _load(data)
    assert len(cohort) == 6
    assert "is missing: duplicate images remain" in cohort.notes[0]


def test_siim_test_images_join_without_label(tmp_path: Path) -> None:
    cohort = _load(_siim(tmp_path), test_images="unlabelled")
    added = cohort.frame[cohort.frame["target"] == UNLABELLED]
    assert len(added) == 6
    assert set(added["patient_id"]) == {"Q0", "Q1", "Q2"}
    assert added["path"].str.startswith("jpeg/test/").all()


def test_siim_declares_its_pairs_and_lesions_whichever_side_is_left_out(tmp_path: Path) -> None:
    data = _siim(tmp_path)
    before = _load(data)
    lesions = pd.DataFrame({"image_name": [f"I{i}" for i in range(6)]})
    lesions = lesions.assign(lesion_id=["L0", "L1", "L2", "L2", "", "L0"])
    lesions.to_csv(tmp_path / "ISIC_2020_Training_GroundTruth_v2.csv", index=False)
    cohort = _load(data)
    assert cohort.digest == before.digest
    assert cohort.frame["lesion_id"].fillna("").tolist() == ["L0", "L1", "L2", "L2", ""]
    official = SamePicture(first="I0", second="I5", by="ISIC_2020_Training_Duplicates.csv")
    by = "ISIC_2020_Training_GroundTruth_v2.csv, lesion_id"
    assert before.declared == (official,)
    assert cohort.declared == (
        official,
        SamePicture(first="I0", second="I5", by=by),
        SamePicture(first="I2", second="I3", by=by),
    )
    with_test = _load(data, test_images="unlabelled")
    assert with_test.frame["lesion_id"].notna().sum() == 4


def test_siim_leaves_out_what_a_named_table_marks_as_duplicate(tmp_path: Path) -> None:
    data = _siim(tmp_path)
    marks = pd.DataFrame({"image_name": [f"I{i}" for i in range(6)]})
    marks.assign(tfrecord=["0", "1", "-1", "2", "0", "-1"]).to_csv(tmp_path / "marks.csv")
    cohort = _load(data, marks_csv="marks.csv")
    assert cohort.frame["sample_id"].tolist() == ["I0", "I1", "I3", "I4"]
    assert "1 images left out: marked as duplicates in marks.csv" in cohort.notes
    (tmp_path / "ISIC_2020_Training_Duplicates.csv").unlink()
    alone = _load(data, marks_csv="marks.csv")
    assert alone.digest == cohort.digest
    assert alone.notes == ("2 images left out: marked as duplicates in marks.csv",)
    with pytest.raises(CohortError, match="column 'tfrecord' is missing"):
        _load(data, marks_csv="sizes.csv")


def test_siim_is_a_table_without_images_where_that_is_asked_for(tmp_path: Path) -> None:
    data = _siim(tmp_path)
    shutil.rmtree(tmp_path / "jpeg")
    cohort = _load(data, missing_files="keep")
    assert len(cohort) == 5
    assert not cohort.has_images
    assert len(cohort.declared) == 1


def test_siim_takes_image_sizes_from_a_named_table(tmp_path: Path) -> None:
    cohort = _load(_siim(tmp_path), sizes_csv="sizes.csv")
    assert cohort.acquisition == ("bytes", "width", "height")
    assert cohort.frame["width"].iloc[:4].tolist() == [600.0] * 4
    assert cohort.frame["width"].isna().sum() == 1
    assert "1 images have no size in sizes.csv" in cohort.notes


def test_siim_reads_its_table_without_any_image(tmp_path: Path) -> None:
    data = _siim(tmp_path)
    shutil.rmtree(tmp_path / "jpeg")
    table = read_train_table(tmp_path)
    columns = ["sample_id", "path", "patient_id", "target", "age", "sex", "site"]
    assert table.columns.tolist() == columns
    assert table["target"].tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(CohortError, match=r"5 fault\(s\)\n  - file jpeg/train/I0.jpg does not"):
        _load(data)


def test_siim_targets_other_than_0_and_1_are_named(tmp_path: Path) -> None:
    _siim(tmp_path)
    rows = pd.read_csv(tmp_path / "train.csv", dtype=str)
    rows.loc[1, "target"] = "2"
    rows.to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(CohortError, match=r"expected targets 0 or 1, got others in\n  - I1$"):
        read_train_table(tmp_path)


def test_files_that_are_missing_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    data = _siim(tmp_path)
    (tmp_path / "jpeg/train/I1.jpg").unlink()
    cohort = _load(data, missing_files="leave_out")
    assert "I1" not in set(cohort.frame["sample_id"])
    assert "1 samples left out: their files are missing" in cohort.notes


def test_ham_outcomes_are_melanoma_or_seven_diagnoses_in_one_order(tmp_path: Path) -> None:
    data = _ham(tmp_path)
    binary, seven = _load(data), _load(data, outcome="diagnosis")
    assert binary.classes == ("other", "melanoma")
    assert binary.frame["target"].tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert seven.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert seven.frame["target"].tolist() == [4, 5, 2, 0, 3, 6, 1, 4]
    assert binary.patient_unit == "lesion"
    assert binary.frame["sex"].isna().all()


def test_ham_has_a_camera_where_its_table_names_one(tmp_path: Path) -> None:
    data = _ham(tmp_path)
    without = _load(data)
    assert without.acquisition == ("bytes",)
    assert without.cameras is None
    rows = pd.read_csv(tmp_path / "HAM10000_metadata.csv", dtype=str)
    named = rows.assign(dataset=["vidir_modern", "rosendahl"] * 4)
    named.to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    cohort = _load(data)
    assert cohort.acquisition == ("bytes", "camera")
    assert cohort.cameras is not None
    assert cohort.cameras.tolist() == ["vidir_modern", "rosendahl"] * 4


def test_ham_finds_each_image_in_its_part_and_refuses_one_in_both(tmp_path: Path) -> None:
    data = _ham(tmp_path)
    assert _load(data).frame["path"].iloc[1] == "HAM10000_images_part_2/H1.jpg"
    shutil.copy(tmp_path / "HAM10000_images_part_2/H1.jpg", tmp_path / "HAM10000_images_part_1")
    with pytest.raises(CohortError, match=r"images lie in both parts; remove one\n  - H1.jpg"):
        _load(data)


def test_ages_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    data = _ham(tmp_path)
    rows = pd.read_csv(tmp_path / "HAM10000_metadata.csv", dtype=str)
    rows.assign(age="old").to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    with pytest.raises(CohortError, match=r"age: expected numbers, got\n  - 'old'"):
        _load(data)


def test_csv_classes_sort_as_numbers_and_ids_stay_text(tmp_path: Path) -> None:
    cohort = _load(_csv(tmp_path))
    assert cohort.classes == ("9", "10")
    assert cohort.frame["target"].tolist() == [1, 0, 1, 0, 1]
    assert cohort.frame["patient_id"].tolist() == ["00", "00", "01", "01", "02"]
    assert cohort.frame["age"].tolist() == [30.0, 31.0, 32.0, 33.0, 34.0]
    assert cohort.acquisition == ("bytes", "camera")
    assert cohort.frame["camera"].isna().tolist() == [True, False, False, False, False]


def test_csv_classes_keep_the_order_they_are_given_in(tmp_path: Path) -> None:
    cohort = _load(_csv(tmp_path), classes=["10", "9", "never seen"])
    assert cohort.classes == ("10", "9", "never seen")
    assert cohort.frame["target"].tolist() == [0, 1, 0, 1, 0]


def test_a_csv_label_that_reads_like_a_class_index_is_still_unknown(tmp_path: Path) -> None:
    data = _csv(tmp_path)
    text = (tmp_path / "index.csv").read_text()
    (tmp_path / "index.csv").write_text(text.replace(",9,", ",1,"))
    with pytest.raises(CohortError, match="target '1' of c1 is unknown"):
        _load(data, classes=["9", "10"])


def test_a_positive_label_makes_a_csv_binary(tmp_path: Path) -> None:
    data = _csv(tmp_path)
    cohort = _load(data, positive="9")
    assert cohort.classes == ("other", "9")
    assert cohort.frame["target"].tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(CohortError, match=r"positive='11' does not occur .*found: 9, 10"):
        _load(data, positive="11")


def test_an_empty_csv_label_is_refused_or_unlabelled(tmp_path: Path) -> None:
    data = _csv(tmp_path)
    text = (tmp_path / "index.csv").read_text()
    (tmp_path / "index.csv").write_text(text.replace("c1,00,9", "c1,00,NA"))
    with pytest.raises(CohortError, match="target is empty for sample c1"):
        _load(data)
    cohort = _load(data, empty_label="unlabelled")
    assert cohort.frame["target"].tolist() == [1, UNLABELLED, 1, 0, 1]


def test_a_csv_without_patients_or_labels_notes_it(tmp_path: Path) -> None:
    cohort = _load(_csv(tmp_path), patient_column=None, label_column=None)
    assert cohort.patient_unit == "image"
    assert cohort.frame["patient_id"].tolist() == cohort.frame["sample_id"].tolist()
    assert (cohort.frame["target"] == UNLABELLED).all()
    assert cohort.notes == ("no patient column: one image is one patient",)


@pytest.mark.parametrize("options", [{"images": ".."}, {"images": "/"}, {"csv": "../index.csv"}])
def test_a_csv_source_stays_below_its_root(options: dict[str, str], tmp_path: Path) -> None:
    data = _csv(tmp_path / "root")
    shutil.copy(tmp_path / "root/index.csv", tmp_path)
    with pytest.raises(CohortError, match="may leave the root"):
        _load(data, **options)


def test_a_csv_column_may_not_take_a_name_of_the_cohorts(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"own columns \['target'\]"):
        _load(_csv(tmp_path), clinical=["target"])


def test_a_csv_names_lesions_and_an_official_split_beside_the_digest(tmp_path: Path) -> None:
    data = _csv(tmp_path)
    before = _load(data)
    rows = pd.read_csv(tmp_path / "index.csv", dtype=str)
    rows = rows.assign(mole=["m", "m", "", "n", "NA"], part=["train"] * 4 + ["test"])
    rows.to_csv(tmp_path / "index.csv", index=False)
    cohort = _load(data, lesion_column="mole", split_column="part")
    assert cohort.digest == before.digest
    assert cohort.frame["lesion_id"].fillna("-").tolist() == ["m", "m", "-", "n", "-"]
    assert cohort.frame["split"].tolist() == ["train"] * 4 + ["test"]
    assert not {"lesion_id", "split"} & set(before.frame)
    with pytest.raises(CohortError, match="column 'parts' is missing"):
        _load(data, split_column="parts")


def test_a_csv_feature_may_not_hide_the_split(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"columns \['split'\] are given twice"):
        _load(_csv(tmp_path), split_column="part", clinical=["split"])


def test_an_image_folder_reads_patients_from_file_names(tmp_path: Path) -> None:
    data = _folder(tmp_path)
    cohort = _load(data)
    assert cohort.classes == ("melanoma", "nevus")
    assert cohort.frame["patient_id"].tolist() == ["P0", "P1", "P0", "P1"]
    (tmp_path / "nevus/stranger.png").write_bytes(b"")
    with pytest.raises(CohortError, match=r"nevus/stranger\.png: no patient id matches"):
        _load(data)


def test_an_image_folder_without_pattern_notes_that_images_are_patients(tmp_path: Path) -> None:
    cohort = _load(_folder(tmp_path), patient_pattern=None)
    assert cohort.frame["patient_id"].nunique() == 4
    assert cohort.patient_unit == "image"
    assert cohort.notes == ("no patient_pattern: one image is one patient",)


def test_an_image_folder_reads_classes_from_file_names(tmp_path: Path) -> None:
    for name in ("dog.1", "cat.10", "cat.2"):
        _image(tmp_path / f"train/{name}.jpg")
    settings = {"source": "image_folder", "root": tmp_path, "class_pattern": r"^(\w+)[.]"}
    cohort = _load(settings)
    assert cohort.classes == ("cat", "dog")
    assert dict(zip(cohort.frame["path"], cohort.frame["target"], strict=True)) == {
        "train/cat.10.jpg": 0,
        "train/cat.2.jpg": 0,
        "train/dog.1.jpg": 1,
    }
    _image(tmp_path / "train/7.jpg")
    with pytest.raises(CohortError, match=r"7[.]jpg: no class matches"):
        _load(settings | {"class_pattern": "^(cat|dog)"})


def test_an_image_folder_keeps_given_classes_and_tells_every_mismatch(tmp_path: Path) -> None:
    data = _folder(tmp_path)
    assert _load(data, classes=["nevus", "melanoma"]).frame["target"].tolist() == [1, 1, 0, 0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError) as caught:
        _load(data, classes=["nevus", "keratosis", "empty"])
    text = str(caught.value)
    assert "melanoma, which is there, is not one of the classes" in text
    assert "class keratosis: no folder and no file is named so" in text
    assert "folder empty holds no image" in text


def test_an_image_folder_ignores_other_files_aloud(tmp_path: Path) -> None:
    data = _folder(tmp_path)
    (tmp_path / "nevus/notes.txt").write_text("x")
    (tmp_path / "nevus/.hidden.png").write_text("x")
    assert "1 files ignored: their suffix names no image" in _load(data).notes


def test_an_image_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="no class found; expected root/<class>/<image>"):
        _load({"source": "image_folder", "root": tmp_path})


@pytest.mark.parametrize("pattern", ["(", "P[0-9]+", "(a)(b)"])
def test_a_patient_pattern_needs_exactly_one_group(pattern: str) -> None:
    with pytest.raises(SpecError, match=r"regular expression|exactly one group"):
        SOURCES["image_folder"].parse({"patient_pattern": pattern})
