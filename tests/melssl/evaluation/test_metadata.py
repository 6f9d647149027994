"""Metadata as features: what is read, how it is encoded, and the figures of the real SIIM table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from melssl.data.cohort import Cohort
from melssl.data.sources.siim_isic import SiimIsic
from melssl.errors import CohortError
from melssl.evaluation.metadata import RARE, features, metadata_columns
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.pooling import pooled_score
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.protocols.base import Evidence
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.frame import Frame
from melssl.methods import METHODS
from melssl.methods.metadata import MetadataSettings
from melssl.seeding import Seed
from melssl.splits.folds import FoldSpec, make_folds
from melssl.training.calibration import NoiseImages
from melssl.training.devices import Rank


def table(n: int = 80) -> pd.DataFrame:
    place = np.arange(n)
    return pd.DataFrame(
        {
            "sample_id": [f"i{row:03d}" for row in place],
            "path": [f"i{row:03d}.jpg" for row in place],
            "patient_id": [f"p{row // 8}" if row < 40 else f"q{row // 4}" for row in place],
            "target": place % 2,
            "age": np.where(place == 3, np.nan, 40.0 + place),
            "sex": np.where(place % 2 == 0, "f", "m").astype(object),
            "width": np.where(place < 40, 640, 1024),
            "height": 480,
            "bytes": -1,
        }
    )


def cohort(root: Path, frame: pd.DataFrame | None = None) -> Cohort:
    return Cohort(
        name="made",
        root=root,
        frame=table() if frame is None else frame,
        classes=("no", "yes"),
        clinical=("age", "sex"),
        acquisition=("bytes", "width", "height"),
        has_images=False,
    )


def test_kinds_stand_for_their_columns_and_width_with_height_is_one(tmp_path: Path) -> None:
    made = cohort(tmp_path)
    assert metadata_columns(made, ["clinical"]) == ("age", "sex")
    everything = ("age", "sex", "bytes", "resolution", "images_per_patient")
    assert metadata_columns(made, ["clinical", "acquisition"]) == everything
    assert metadata_columns(made, ["height", "width", "sex"]) == ("resolution", "sex")
    assert metadata_columns(made, ["width"]) == ("width",)
    assert metadata_columns(made, ["sex", "clinical"]) == ("sex", "age")


@pytest.mark.parametrize("name", ["target", "patient_id", "path", "diagnosis"])
def test_only_clinical_and_acquisition_columns_can_be_asked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=f"'{name}' is no clinical or acquisition column.*known"):
        metadata_columns(cohort(tmp_path), [name])


def test_a_cohort_without_columns_of_the_kind_says_what_it_knows(tmp_path: Path) -> None:
    bare = replace(cohort(tmp_path), clinical=(), acquisition=("bytes",))
    with pytest.raises(CohortError, match=r"marked as clinical \(known: bytes, images_per"):
        metadata_columns(bare, ["clinical", "acquisition"])
    assert metadata_columns(bare, ["acquisition"]) == ("bytes", "images_per_patient")


def test_a_number_gives_its_place_in_its_range_and_an_indicator_of_missing() -> None:
    age = features(table(), ["age"])
    assert age.shape == (80, 2)
    assert age.dtype == np.float32
    assert age[[0, 79], 0].tolist() == [0, 1]
    assert age[3].tolist() == pytest.approx([40 / 79, 1])  # the median age is 80
    assert age[:, 1].sum() == 1


def test_a_level_gives_a_column_and_missing_is_a_level() -> None:
    frame = table()
    frame.loc[:4, "sex"] = None
    sex = features(frame, ["sex"])
    assert sex[[5, 6, 0]].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_array_equal(sex.sum(axis=1), 1)


def test_rare_levels_share_a_column() -> None:
    site = np.repeat(["torso", "leg", "arm", "palm"], [RARE + 19, RARE, RARE - 1, 2])
    encoded = features(table().assign(site=site), ["site"])
    assert encoded.sum(axis=0).tolist() == [RARE, RARE + 19, RARE + 1]


def test_images_of_a_patient_are_counted_and_read_as_a_logarithm() -> None:
    counts = features(table(), ["images_per_patient"])
    assert counts[[0, 79], 0].tolist() == [1, 0]
    frame = table().assign(patient_id=["a"] * 60 + ["b"] * 15 + ["c"] * 5)
    expected = np.log(16 / 6) / np.log(61 / 6)
    assert features(frame, ["images_per_patient"])[60, 0] == pytest.approx(expected)


def test_a_resolution_is_a_level_and_a_half_known_one_is_missing() -> None:
    frame = table().astype({"height": float})
    frame.loc[0, "height"] = np.nan
    sizes = features(frame, ["resolution"])
    assert sizes.sum(axis=0).tolist() == [40, 39, 1]
    assert sizes[0].tolist() == [0, 0, 1]


def test_columns_that_do_not_vary_are_left_out_and_nothing_left_is_an_error() -> None:
    assert features(table(), ["bytes", "height", "sex"]).shape == (80, 2)
    with pytest.raises(CohortError, match="bytes, height have one value each in 80 rows"):
        features(table(), ["bytes", "height"])
    with pytest.raises(CohortError, match=r"'site' is missing \(found: sample_id, path"):
        features(table(), ["site"])


ALL = ("age", "sex", "bytes", "resolution", "images_per_patient")


def test_the_order_of_rows_changes_not_a_bit_and_targets_are_not_read() -> None:
    frame = table()
    order = np.random.default_rng(0).permutation(80)
    shuffled = frame.iloc[order].assign(target=-1)
    np.testing.assert_array_equal(features(shuffled, ALL), features(frame, ALL)[order])


@pytest.mark.parametrize("name", ["metadata", "metadata_clinical", "metadata_all"])
def test_a_metadata_arm_says_its_columns_and_sees_no_image(name: str, tmp_path: Path) -> None:
    method = METHODS[name]
    assert (method.sees, method.trains) == ("metadata", False)
    config = method.Config()
    assert isinstance(config, MetadataSettings)
    columns = config.columns_of(cohort(tmp_path))
    wanted = {"metadata_clinical": ("age", "sex"), "metadata_all": ALL}
    assert columns == wanted.get(name, ("images_per_patient",))
    assert features(table(), columns).shape[0] == 80
    assert config.keyed()["name"] == name


def test_all_other_methods_see_images() -> None:
    blind = {name for name, method in METHODS.items() if method.sees != "images"}
    assert blind == {"metadata", "metadata_clinical", "metadata_all"}


@pytest.fixture(scope="module")
def siim(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    root = real_data / "siim_isic_2020"
    if not (root / "train_cdeotte.csv").is_file():
        pytest.skip(f"{root / 'train_cdeotte.csv'} is absent: it holds the image sizes of SIIM")
    source = SiimIsic(root=root, missing_files="keep", sizes_csv="train_cdeotte.csv")
    return source.load(tmp_path_factory.mktemp("cache"))


def out_of_fold(cohort: Cohort, columns: tuple[str, ...]) -> list[Predictions]:
    frame = cohort.frame
    encoded, target = features(frame, columns), frame["target"].to_numpy()
    patient, scored = frame["patient_id"].to_numpy(object), []
    for fold in make_folds(frame, FoldSpec(), 2).folds:
        tested = frame["patient_id"].isin(fold.test).to_numpy()
        train, test = np.flatnonzero(~tested), np.flatnonzero(tested)
        evidence = Evidence(
            n_classes=2,
            train=train,
            train_target=target[train],
            test=test,
            pool=train,
            patient=patient,
            seed=Seed(0),
            embeddings=encoded,
            backbone=lambda: pytest.fail("metadata needs no backbone"),
            images=NoiseImages(8),
            frame=Frame(8),
            rank=Rank(0, 1, torch.device("cpu")),
        )
        part = Predictions(
            sample_id=frame["sample_id"].to_numpy(object)[test],
            patient_id=patient[test],
            target=target[test],
            probability=LinearProbe().judge(evidence).probability,
            prior=np.array([0.98, 0.02]),
        )
        scored.append(part)
    return scored


@pytest.mark.parametrize(
    ("wanted", "published"),
    [
        (["resolution"], 0.787),
        (["sex", "images_per_patient"], 0.720),
        (["sex", "age", "site"], 0.680),
        (["clinical", "acquisition"], 0.839),
    ],
)
def test_the_real_siim_metadata_reach_the_published_auc_without_a_pixel(
    siim: Cohort, wanted: list[str], published: float
) -> None:
    scored = out_of_fold(siim, metadata_columns(siim, wanted))
    auc = METRICS["roc_auc"]
    assert pooled_score(scored, auc, "mean") == pytest.approx(published, abs=0.01)
    assert pooled_score(scored, auc, "raw") == pytest.approx(published, abs=0.01)
