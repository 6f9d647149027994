"""Sources of volumes: folders, data lists, tables, and a made cohort without shortcuts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from melssl.data.cohort import UNLABELLED, Cohort
from melssl.data.sources import SOURCES
from melssl.data.sources.synthetic_volumes import SyntheticVolumes
from melssl.errors import CohortError, MissingExtraError, SpecError

nib = pytest.importorskip("nibabel", reason="volumes need the extra: pip install '.[volumes]'")


def load(source: str, root: Path, **settings: object) -> Cohort:
    return SOURCES[source].parse({"source": source, "root": root, **settings}).load(root)


def volume(path: Path, label: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    nib.save(nib.Nifti1Image(values if label is None else values % (label + 1), np.eye(4)), path)


def folders(root: Path) -> None:
    for name in ("P1_a", "P1_b", "P2_a", "P3_a"):
        volume(root / f"images/{name}.nii.gz")
    for name in ("P1_a", "P2_a"):
        volume(root / f"labels/{name}.nii.gz", 2)


def test_masks_belong_to_the_volumes_of_their_name_and_label_them(tmp_path: Path) -> None:
    folders(tmp_path)
    cohort = load("nifti_folder", tmp_path, structures=["head", "tail"])
    frame = cohort.frame.set_index("sample_id")
    assert frame.index.tolist() == ["P1_a", "P1_b", "P2_a", "P3_a"]
    assert frame["mask"].fillna("").tolist() == ["labels/P1_a.nii.gz", "", "labels/P2_a.nii.gz", ""]
    assert frame["target"].tolist() == [0, UNLABELLED, 0, UNLABELLED]
    assert cohort.structures == ("head", "tail")
    assert cohort.medium.kind == "volume"
    assert cohort.patient_unit == "volume"
    assert cohort.notes == ("no patient_pattern: one volume is one patient",)


def test_patients_are_read_from_the_names_of_files(tmp_path: Path) -> None:
    folders(tmp_path)
    given = {"structures": ["head", "tail"], "patient_pattern": "^(P[0-9])_"}
    cohort = load("nifti_folder", tmp_path, **given)
    assert cohort.frame["patient_id"].tolist() == ["P1", "P1", "P2", "P3"]
    assert cohort.notes == ()
    with pytest.raises(CohortError, match=r"P1_a.nii.gz: no patient id matches"):
        load("nifti_folder", tmp_path, **given | {"patient_pattern": "^(Q[0-9])_"})
    with pytest.raises(SpecError, match="exactly one group"):
        load("nifti_folder", tmp_path, **given | {"patient_pattern": "Q"})


def test_what_a_folder_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"no files .nii.gz or .nii where volumes are expected"):
        load("nifti_folder", tmp_path)
    folders(tmp_path)
    with pytest.raises(CohortError, match="masks of unknown structures; name their labels 1, 2"):
        load("nifti_folder", tmp_path)
    volume(tmp_path / "labels/P9_a.nii.gz", 2)
    with pytest.raises(CohortError, match=r"1 masks have no volume of their name.*\n  - P9_a"):
        load("nifti_folder", tmp_path, structures=["head", "tail"])


def test_the_medium_is_in_the_digest_and_where_files_lie_is_not(tmp_path: Path) -> None:
    folders(tmp_path / "here")
    given = {"structures": ["head", "tail"]}
    plain = load("nifti_folder", tmp_path / "here", **given)
    other = load("nifti_folder", tmp_path / "here", volume={"window": [-57, 164]}, **given)
    assert plain.digest != other.digest
    (tmp_path / "here").rename(tmp_path / "there")
    assert load("nifti_folder", tmp_path / "there", **given).digest == plain.digest


def decathlon(root: Path, **changes: object) -> None:
    folders(root)
    data = {
        "name": "made",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": [{"image": "./images/P1_a.nii.gz", "label": "./labels/P1_a.nii.gz"}],
        "validation": [{"image": "images/P2_a.nii.gz", "label": "labels/P2_a.nii.gz"}],
        "test": ["./images/P3_a.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(data | changes))


def test_a_data_list_gives_its_sections_structures_and_official_split(tmp_path: Path) -> None:
    decathlon(tmp_path)
    cohort = load("decathlon", tmp_path)
    assert cohort.structures == ("Anterior", "Posterior")
    assert cohort.frame["sample_id"].tolist() == ["P1_a", "P2_a"]
    assert cohort.frame["split"].tolist() == ["training", "validation"]
    assert cohort.frame["path"].tolist() == ["images/P1_a.nii.gz", "images/P2_a.nii.gz"]
    both = load("decathlon", tmp_path, test_volumes="unlabelled")
    assert both.frame["target"].tolist() == [0, 0, UNLABELLED]


@pytest.mark.parametrize(
    "labels",
    [{"background": 0, "Anterior": 1, "Posterior": 2}, {"1": "Anterior", "2": "Posterior"}],
)
def test_labels_are_read_in_either_spelling(labels: dict[str, object], tmp_path: Path) -> None:
    decathlon(tmp_path, labels=labels)
    assert load("decathlon", tmp_path).structures == ("Anterior", "Posterior")


def test_a_data_list_without_labels_is_a_pool(tmp_path: Path) -> None:
    decathlon(tmp_path, training=[{"image": "images/P1_b.nii.gz"}], validation=[])
    cohort = load("decathlon", tmp_path)
    assert (cohort.frame["target"] == UNLABELLED).all()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "dataset.json cannot be read as JSON"),
        ("[1]", "expected sections such as training in dataset.json, got a list"),
        ('{"train": []}', r"in training, validation of dataset.json .*\(found: train\)"),
        ('{"training": [{"label": "x"}, 3]}', r"training\[0\].*\n.*training\[1\]: 3"),
        ('{"training": [{"image": "gone.nii", "label": null}]}', "file gone.nii does not exist"),
        ('{"training": ["../x.nii"]}', "may leave the root"),
    ],
)
def test_a_faulty_data_list_is_one_clear_error(content: str, told: str, tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(CohortError, match=told):
        load("decathlon", tmp_path)


def test_a_mask_that_is_missing_is_named(tmp_path: Path) -> None:
    decathlon(tmp_path)
    (tmp_path / "labels/P2_a.nii.gz").unlink()
    with pytest.raises(CohortError, match=r"labels/P2_a.nii.gz does not exist"):
        load("decathlon", tmp_path)


def test_the_hippocampus_is_two_folders_with_two_structures(tmp_path: Path) -> None:
    folders(tmp_path)
    cohort = load("msd_hippocampus", tmp_path)
    assert cohort.structures == ("anterior", "posterior")
    assert cohort.name == "msd_hippocampus"


def test_a_table_gives_volumes_classes_patients_and_masks(tmp_path: Path) -> None:
    folders(tmp_path)
    table = pd.DataFrame(
        {
            "file": ["images/P1_a.nii.gz", "images/P2_a.nii.gz", "images/P3_a.nii.gz"],
            "patient": ["P1", "P2", "P3"],
            "label": ["ill", "well", "well"],
            "drawn": ["labels/P1_a.nii.gz", "labels/P2_a.nii.gz", ""],
        }
    )
    table.to_csv(tmp_path / "index.csv", index=False)
    cohort = load("nifti_table", tmp_path, mask_column="drawn", structures=["head", "tail"])
    assert cohort.classes == ("ill", "well")
    assert cohort.frame["target"].tolist() == [0, 1, 1]
    assert cohort.frame["mask"].fillna("").tolist() == [
        "labels/P1_a.nii.gz",
        "labels/P2_a.nii.gz",
        "",
    ]
    assert cohort.structures == ("head", "tail")
    assert load("nifti_table", tmp_path).medium.kind == "volume"


def test_without_nibabel_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melssl.errors.find_spec", lambda _: None)
    folders(tmp_path)
    for source in ("msd_hippocampus", "decathlon", "nifti_table"):
        with pytest.raises(MissingExtraError, match=r"pip install '\.\[volumes\]'"):
            load(source, tmp_path)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[volumes\]'"):
        SyntheticVolumes().load(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return SyntheticVolumes(n_patients=24, side_mm=20).load(tmp_path_factory.mktemp("made"))


def test_a_made_cohort_is_the_same_wherever_it_is_drawn_and_grows_by_patients(
    made: Cohort, tmp_path: Path
) -> None:
    small = SyntheticVolumes(n_patients=4, side_mm=20).load(tmp_path)
    for column in ("path", "mask"):
        for name in small.frame[column]:
            assert (small.root / name).read_bytes() == (made.root / name).read_bytes()
    again = SyntheticVolumes(n_patients=4, side_mm=20, cohort_seed=1).load(tmp_path)
    assert again.digest != small.digest


def test_sizes_of_the_two_structures_decide_the_class_and_brightness_does_not(
    made: Cohort,
) -> None:
    medium, frame = made.medium, made.frame
    files = [[made.root / path for path in frame[column]] for column in ("path", "mask")]
    masks = [
        medium.decode_mask(*pair, len(made.structures), 20, "crop").labels
        for pair in zip(*files, strict=True)
    ]
    front, back = (np.array([(mask == label).sum() for mask in masks]) for label in (1, 2))
    shown = np.stack([medium.decode(path, 20, "crop") for path in files[0]])
    healthy = frame["target"] == 0
    assert roc_auc_score(healthy, front / (front + back)) > 0.95
    for shortcut in (front + back, shown.mean(axis=(1, 2, 3, 4)), shown.std(axis=(1, 2, 3, 4))):
        assert 0.25 < roc_auc_score(healthy, shortcut) < 0.75
    corners = {nib.aff2axcodes(nib.load(path).affine) for path in files[0]}
    assert len(corners) == 3
    assert len({nib.load(path).shape for path in files[0]}) > 3
    assert (frame.groupby("patient_id").size() == 2).all()
