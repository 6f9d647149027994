"""The made cohort: the same wherever it is drawn, shaped like the real thing, graded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from melssl.data.cohort import Cohort
from melssl.data.sources import SOURCES, synthetic
from melssl.data.sources.synthetic import CAMERAS, SIGNS, Synthetic
from melssl.data.sources.synthetic_camera import Camera, photograph
from melssl.data.sources.synthetic_lesions import PATTERNS, Canvas, Signs, Skin, draw_lesion
from melssl.errors import SpecError
from melssl.seeding import Seed

SMALL = Synthetic(n_patients=6, image_px=16)
SKIN = Skin(reflectance=np.array([0.9, 0.7, 0.6]), mottling=0.05, hairs=0.0, pigment=1.0)
NO_SIGNS = Signs(**dict.fromkeys(SIGNS, 0.0))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return Synthetic(image_px=16).load(tmp_path_factory.mktemp("cohort"))


def _files(cohort: Cohort) -> dict[str, bytes]:
    return {path: (cohort.root / path).read_bytes() for path in cohort.frame["path"]}


def _pixels(cohort: Cohort, path: str) -> np.ndarray:
    with Image.open(cohort.root / path) as image:
        return np.asarray(image, dtype=np.float32)


def _sign_auc(frame: pd.DataFrame) -> float:
    signs = frame[[f"sign_{name}" for name in SIGNS]].to_numpy()
    return float(roc_auc_score(frame["target"], np.log(signs / (1 - signs)).sum(axis=1)))


def test_the_same_options_give_the_same_bytes_and_digest_anywhere(tmp_path: Path) -> None:
    one, other = SMALL.load(tmp_path / "one"), SMALL.load(tmp_path / "other")
    assert _files(one) == _files(other)
    assert one.digest == other.digest


def test_a_larger_cohort_contains_the_smaller_one(tmp_path: Path) -> None:
    small, large = SMALL.load(tmp_path), SMALL.replace(n_patients=8).load(tmp_path)
    assert _files(small).items() <= _files(large).items()
    shared = large.frame[large.frame["patient_id"].isin(small.frame["patient_id"])]
    pd.testing.assert_frame_equal(shared.reset_index(drop=True), small.frame)


def test_another_seed_gives_other_patients_and_other_images(tmp_path: Path) -> None:
    one, other = SMALL.load(tmp_path), SMALL.replace(cohort_seed=1).load(tmp_path)
    assert one.root != other.root
    assert not set(_files(one).values()) & set(_files(other).values())


def test_a_finished_folder_is_used_again_and_not_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SMALL.load(tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(synthetic, "_write_images", refuse)
    assert SMALL.load(tmp_path).digest == first.digest


def test_a_drawing_that_breaks_off_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", full_disk)
        with pytest.raises(OSError, match="no space"):
            SMALL.load(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(SMALL.load(tmp_path)) > 0


def test_several_at_once_end_with_one_whole_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        digests = {c.digest for c in pool.map(lambda _: SMALL.load(tmp_path), range(4))}
    assert len(digests) == 1
    assert [folder.name[:10] for folder in tmp_path.iterdir()] == ["synthetic-"]


def test_patients_have_two_to_twenty_lesions_and_few_have_many(cohort: Cohort) -> None:
    lesions = cohort.frame.groupby("patient_id").size()
    assert len(lesions) == 300
    assert lesions.between(2, 20).all()
    assert lesions.mean() == pytest.approx(6, rel=0.1)
    assert lesions.median() < lesions.mean() < lesions.quantile(0.8)


def test_melanoma_is_the_rarer_class_at_the_asked_shares(cohort: Cohort) -> None:
    outcome = cohort.frame.groupby("patient_id")["target"].max()
    assert cohort.frame["target"].mean() == pytest.approx(0.15, abs=0.02)
    assert outcome.mean() == pytest.approx(0.45, abs=0.01)


@pytest.mark.parametrize("n_patients", [4, 9, 20])
def test_even_few_patients_are_of_both_kinds(tmp_path: Path, n_patients: int) -> None:
    for cohort_seed in range(3):
        config = Synthetic(n_patients=n_patients, image_px=16, cohort_seed=cohort_seed)
        outcome = config.load(tmp_path).frame.groupby("patient_id")["target"].max()
        assert outcome.mean() == pytest.approx(0.45, abs=1.2 / n_patients)


def test_the_camera_and_the_metadata_hang_together_with_the_outcome(cohort: Cohort) -> None:
    frame = cohort.frame
    share = frame.groupby("camera")["target"].mean()
    assert share["C"] > 2 * share["A"]
    melanoma = frame["target"] == 1
    assert 3 < frame.loc[melanoma, "age"].mean() - frame.loc[~melanoma, "age"].mean() < 15


def test_the_signs_overlap_between_the_classes(cohort: Cohort) -> None:
    assert 0.92 < _sign_auc(cohort.frame) < 0.975


def test_without_separation_there_is_nothing_to_learn(tmp_path: Path) -> None:
    config = Synthetic(n_patients=100, image_px=16, separation=0)
    assert abs(_sign_auc(config.load(tmp_path).frame) - 0.5) < 0.1


def test_mean_colour_does_not_tell_the_classes_apart(cohort: Cohort) -> None:
    colour = np.array([_pixels(cohort, path).mean(axis=(0, 1)) for path in cohort.frame["path"]])
    for channel in colour.T:
        assert abs(roc_auc_score(cohort.frame["target"], channel) - 0.5) < 0.1


def test_the_skin_of_a_patient_is_the_same_on_all_images(cohort: Cohort) -> None:
    flat = cohort.frame[cohort.frame["camera"] == "A"]
    edge = flat.assign(skin=[_pixels(cohort, path)[:, 0].mean() for path in flat["path"]])
    within = edge.groupby("patient_id")["skin"].var().mean()
    assert within < 0.7 * edge["skin"].var()


def test_width_and_height_are_those_of_the_files(cohort: Cohort) -> None:
    for row in cohort.frame.iloc[::40].to_dict("records"):
        assert _pixels(cohort, row["path"]).shape == (row["height"], row["width"], 3)
    assert cohort.frame.groupby("camera")["width"].nunique().eq(1).all()


@pytest.mark.parametrize("sign", SIGNS)
def test_every_sign_changes_the_lesion_by_degrees(sign: str) -> None:
    def lesions(strength: float) -> np.ndarray:
        signs = replace(NO_SIGNS, **{sign: strength})
        streams = [Seed(3).child(i).numpy() for i in range(8)]
        blank = [Canvas.blank(48, 48, rng) for rng in streams]
        return np.stack([draw_lesion(canvas, SKIN, "network", signs) for canvas in blank])

    slight, strong = (np.abs(lesions(strength) - lesions(0)).mean() for strength in (0.1, 1.0))
    assert strong > 0.003
    assert 0 < slight < 0.8 * strong


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_darkens_the_middle_and_keeps_the_range(pattern: str) -> None:
    image = draw_lesion(Canvas.blank(48, 64, Seed(5).numpy()), SKIN, pattern, NO_SIGNS)
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.float32
    assert image[18:30, 26:38].mean() < image[:, :4].mean() - 0.1
    assert np.isfinite(image).all()


PLAIN = Camera(aspect=1.0, tint=(1, 1, 1), vignette=0.0, blur=0.002, ruler=0.0)
TRACES = {
    "tint": replace(PLAIN, tint=(1.2, 1, 0.8)),
    "vignette": replace(PLAIN, vignette=0.5),
    "blur": replace(PLAIN, blur=0.04),
    "ruler": replace(PLAIN, ruler=1.0),
}


@pytest.mark.parametrize("trace", TRACES)
def test_every_trace_of_a_camera_shows_in_its_pictures(trace: str) -> None:
    def picture(camera: Camera) -> np.ndarray:
        canvas = Canvas.blank(48, 48, Seed(7).numpy())
        image = draw_lesion(canvas, SKIN, "network", NO_SIGNS)
        return photograph(canvas, image, camera, mean_hairs=0, nuisance=0).astype(np.float32)

    assert np.abs(picture(TRACES[trace]) - picture(PLAIN)).mean() > 1


def test_noise_has_unit_spread_and_more_cycles_mean_finer_noise() -> None:
    canvas = Canvas.blank(64, 96, Seed(1).numpy())
    coarse, fine = canvas.noise(2), canvas.noise(8)
    assert coarse.shape == (64, 96)
    assert coarse.std() == pytest.approx(1, abs=1e-4)
    assert np.abs(np.diff(fine)).mean() > 2 * np.abs(np.diff(coarse)).mean()


def test_a_share_that_cannot_be_reached_is_refused_with_the_range_that_can() -> None:
    with pytest.raises(SpecError, match=r"melanoma_share 0.6 cannot be reached.*0\.075\.\.0\.450"):
        Synthetic.parse({"melanoma_share": 0.6})


@pytest.mark.parametrize("name", ["synthetic", "synthetic_clips", "synthetic_volumes"])
def test_a_folder_of_data_given_to_a_made_cohort_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=rf"root: .*{name} draws its own files"):
        SOURCES[name].parse({"root": str(tmp_path)})


def test_the_cameras_differ_in_shape() -> None:
    assert len({camera.aspect for camera in CAMERAS.values()}) == len(CAMERAS)
