"""Clips: which frames are kept, how files are read, and what is wrong with those that cannot be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from melssl.data.media.clip import ClipMedium
from melssl.data.media.clip_files import frames_of
from melssl.data.media.clip_window import motion, spread, start_of, strided
from melssl.data.sources.clip_arrays import ClipArrays
from melssl.data.sources.pocus_lung_ultrasound import PocusLungUltrasound
from melssl.data.sources.synthetic_clips import SyntheticClips
from melssl.data.sources.video_folder import VideoFolder
from melssl.errors import CohortError, MissingExtraError, SpecError


def frames(n: int = 10, height: int = 20, width: int = 24, seed: int = 0) -> np.ndarray:
    """Return a clip (n, H, W) in which a bright square walks to the right, slowly then fast."""
    clip = np.full((n, height, width), 20, np.uint8)
    for t in range(n):
        left = min(t if t < n // 2 else 2 * t - n // 2, width - 4)
        clip[t, 4:8, left : left + 4] = 220
    return clip


def write_video(path: Path, clip: np.ndarray) -> None:
    av = pytest.importorskip("av", reason="PyAV, the extra clips, is not installed")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "yuv420p"
        stream.options = {"qscale": "2"}
        for picture in clip:
            image = Image.fromarray(picture).convert("RGB")
            for packet in stream.encode(av.VideoFrame.from_image(image)):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def test_even_frames_are_the_middles_of_equal_parts() -> None:
    assert spread(8, 4).tolist() == [1, 3, 5, 7]
    assert spread(9, 3).tolist() == [1, 4, 7]
    assert spread(2, 4).tolist() == [0, 0, 1, 1]


def test_a_clip_that_ends_before_goes_to_and_fro_or_holds_or_is_refused() -> None:
    assert strided(1, 9, 4, 2, "refuse").tolist() == [1, 3, 5, 7]
    assert strided(0, 4, 7, 1, "bounce").tolist() == [0, 1, 2, 3, 2, 1, 0]
    assert strided(0, 4, 6, 1, "hold").tolist() == [0, 1, 2, 3, 3, 3]
    with pytest.raises(ValueError, match=r"expected 7 frames or more .* got 4; lower n_frames"):
        strided(0, 4, 7, 1, "refuse")


def test_the_window_of_high_motion_is_where_frames_change_most() -> None:
    still = np.zeros((12, 6, 6, 1), np.uint8)
    still[5:9] = np.random.default_rng(0).integers(0, 255, (4, 6, 6, 1), dtype=np.uint8)
    assert motion(still).shape == (11,)
    assert [start_of(window, still, 4) for window in ("first", "middle")] == [0, 4]
    start = start_of("motion", still, 5)
    sums = [motion(still)[s : s + 4].sum() for s in range(8)]
    assert sums[start] == max(sums)
    assert start_of("motion", still, 12) == 0


@pytest.mark.parametrize("suffix", [".npy", ".gif", ".mp4", ".avi"])
def test_a_file_becomes_square_frames_in_order(suffix: str, tmp_path: Path) -> None:
    path, clip = tmp_path / f"clip{suffix}", frames()
    if suffix == ".npy":
        np.save(path, clip)
    elif suffix == ".gif":
        first, *rest = (Image.fromarray(picture) for picture in clip)
        first.save(path, save_all=True, append_images=rest)
    else:
        write_video(path, clip)
    grey = ClipMedium(n_frames=5).decode(path, 10, "crop")
    colour = ClipMedium(n_frames=5, channels=3).decode(path, 10, "crop")
    assert (grey.shape, colour.shape) == ((5, 10, 10, 1), (5, 10, 10, 3))
    assert grey.dtype == np.uint8
    middle = clip[spread(10, 5)][:, :, 2:22].reshape(5, 10, 2, 10, 2).mean(axis=(2, 4))
    assert np.abs(grey[..., 0] - middle).mean() < 6  # a video is a little lossy
    assert np.abs(colour.mean(axis=3) - grey[..., 0]).mean() < 2
    whole = ClipMedium(n_frames=5).decode(path, 10, "squash")
    assert not np.array_equal(whole, grey)


def test_colour_is_kept_or_made_grey(tmp_path: Path) -> None:
    clip = np.zeros((4, 8, 8, 3), np.uint8)
    clip[..., 0] = 200
    np.save(tmp_path / "red.npy", clip)
    red = ClipMedium(n_frames=2, channels=3).decode(tmp_path / "red.npy", 8, "crop")
    assert red[0, 0, 0].tolist() == [200, 0, 0]
    grey = ClipMedium(n_frames=2).decode(tmp_path / "red.npy", 8, "crop")
    assert grey[0, 0, 0].tolist() == [60]  # .299 of it


def test_strides_windows_and_short_clips_reach_the_decoder(tmp_path: Path) -> None:
    clip = frames(20)
    np.save(tmp_path / "c.npy", clip)
    path = tmp_path / "c.npy"
    first = ClipMedium(n_frames=3, stride=2, window="first").decode(path, 20, "crop")
    assert np.array_equal(first[..., 0], clip[[0, 2, 4], :, 2:22])
    middle = ClipMedium(n_frames=4, stride=2).decode(path, 20, "crop")
    assert np.array_equal(middle[..., 0], clip[[6, 8, 10, 12], :, 2:22])
    with pytest.raises(ValueError, match="expected 101 frames or more"):
        ClipMedium(n_frames=101, stride=1, short="refuse").decode(path, 20, "crop")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("still.npy", np.zeros((1, 4, 4), np.uint8), "expected a moving picture, got 1 frame"),
        ("float.npy", np.zeros((4, 4, 4), np.float32), "expected bytes .* got float32"),
        ("flat.npy", np.zeros((4, 4), np.uint8), r"got uint8 \(4, 4\)"),
        ("words.npy", np.array(["a", None], object), "Python objects"),
    ],
)
def test_an_array_that_is_no_clip_says_what_it_is(
    name: str, content: np.ndarray, message: str, tmp_path: Path
) -> None:
    np.save(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        ClipMedium(n_frames=2).decode(tmp_path / name, 4, "crop")


def test_a_video_that_is_cut_short_or_none_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64), dtype=np.uint8)
    write_video(tmp_path / "whole.avi", noise)
    data = (tmp_path / "whole.avi").read_bytes()
    assert len(list(frames_of(tmp_path / "whole.avi"))) == 40
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"expected the 40 frames of its header, \d+ can be"):
        list(frames_of(tmp_path / "cut.avi"))
    (tmp_path / "text.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(ValueError, match=r"damaged, cut short or none .Invalid data"):
        list(frames_of(tmp_path / "text.mp4"))


def table(root: Path, names: list[str]) -> None:
    rows = [(name, f"P{i // 2}", "ab"[i % 2]) for i, name in enumerate(names)]
    pd.DataFrame(rows, columns=["file", "patient", "label"]).to_csv(root / "index.csv", index=False)


def test_without_pyav_arrays_are_read_and_videos_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melssl.errors.find_spec", lambda name: None)
    np.save(tmp_path / "0.npy", frames())
    table(tmp_path, ["0.npy"])
    assert len(VideoFolder(root=tmp_path).load(tmp_path)) == 1
    (tmp_path / "1.mp4").write_bytes(b"x")
    table(tmp_path, ["0.npy", "1.mp4"])
    with pytest.raises(MissingExtraError, match=r"video files such as 1.mp4: .*\[clips\]"):
        VideoFolder(root=tmp_path).load(tmp_path)


def arrays(root: Path, clips: np.ndarray, rows: int | None = None) -> ClipArrays:
    words = np.array(["harmful", None], dtype=object)
    np.savez_compressed(root / "clips.npz", clips=clips, label=words)
    table(root, [f"c{i}" for i in range(len(clips) if rows is None else rows)])
    return ClipArrays(root=root)


def test_arrays_become_a_file_per_clip_and_nothing_else_is_read(tmp_path: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 255, (4, 5, 8, 8), dtype=np.uint8)
    cohort = arrays(tmp_path, clips).load(tmp_path / "cache")
    assert cohort.frame["sample_id"].tolist() == ["c0", "c1", "c2", "c3"]
    for clip, path in zip(clips, cohort.frame["path"], strict=True):
        assert np.array_equal(np.load(cohort.root / path, allow_pickle=False), clip)
    again = ClipArrays(root=tmp_path).load(tmp_path / "cache")
    assert (again.digest, again.root) == (cohort.digest, cohort.root)
    clips[2, 0, 0, 0] ^= 1
    assert arrays(tmp_path, clips).load(tmp_path / "cache").digest != cohort.digest
    np.save(tmp_path / "clips.npy", clips)
    plain = ClipArrays(root=tmp_path, arrays="clips.npy").load(tmp_path / "cache")
    assert plain.frame["path"].tolist() != cohort.frame["path"].tolist()
    assert len(plain) == 4


def test_an_array_file_that_is_damaged_or_another_is_refused(tmp_path: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 255, (4, 5, 8, 8), dtype=np.uint8)
    source = arrays(tmp_path, clips, rows=3)
    with pytest.raises(CohortError, match=r"a clip for each of the 3 rows .* got 4 clips"):
        source.load(tmp_path / "cache")
    source = arrays(tmp_path, clips.astype(np.float32))
    with pytest.raises(CohortError, match=r"clips.npz\[clips\]: expected bytes .* got float32"):
        source.load(tmp_path / "cache")
    with pytest.raises(CohortError, match=r"no array 'video' \(found: clips, label\)"):
        ClipArrays(root=tmp_path, key="video").load(tmp_path / "cache")
    with pytest.raises(CohortError, match="got object"):
        ClipArrays(root=tmp_path, key="label").load(tmp_path / "cache")
    np.save(tmp_path / "clips.npy", clips)
    whole = (tmp_path / "clips.npy").read_bytes()
    (tmp_path / "clips.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CohortError, match=r"clips.npy: .* ends within clip \d of 4"):
        ClipArrays(root=tmp_path, arrays="clips.npy").load(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob(".*.part"))


def test_made_clips_show_the_same_positions_in_both_classes(tmp_path: Path) -> None:
    config = SyntheticClips(n_patients=4, clips_per_patient=1, n_frames=8, image_px=16, noise=0)
    cohort = config.load(tmp_path)
    assert cohort.classes == ("slow", "fast")
    assert cohort.frame.groupby("patient_id")["target"].nunique().eq(1).all()
    from melssl.data.sources.synthetic_clips import draw_clip

    ground = np.full((16, 16), 0.2, np.float32)
    slow, fast = (draw_clip(config, ground, n, np.random.default_rng(3)) for n in (1, 3))
    assert not np.array_equal(slow, fast)
    nearest = [np.abs(slow.astype(int) - frame).max(axis=(1, 2)) for frame in fast]
    assert [int(gap.min()) <= 1 for gap in nearest] == [True] * 8
    assert sorted(int(gap.argmin()) for gap in nearest) == list(range(8))
    with pytest.raises(SpecError, match="no multiple of 3"):
        SyntheticClips.parse({"n_frames": 12})


def test_pocus_has_its_patients_findings_and_places(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "pocus_lung_ultrasound"
    if not root.is_dir():
        pytest.skip(f"no POCUS clips at {root}")
    cohort = PocusLungUltrasound(root=root).load(tmp_path)
    assert (len(cohort), cohort.frame["patient_id"].nunique()) == (130, 79)
    assert cohort.frame["target"].value_counts().to_dict() == {0: 59, 1: 42, 2: 29}
    assert cohort.cameras is not None
    assert cohort.cameras.nunique() == 11
    unknown = PocusLungUltrasound(root=root, viral="unlabelled").load(tmp_path)
    assert (unknown.frame["target"] == -1).sum() == 5
    assert (
        len(PocusLungUltrasound(root=root, viral="leave_out", outcome="covid").load(tmp_path))
        == 125
    )
    row = cohort.frame.iloc[0]
    clip = cohort.medium.decode(cohort.root / row["path"], 48, "crop")
    assert clip.shape == (16, 48, 48, 1)
    assert clip.std() > 10


def test_the_published_videos_show_what_the_arrays_show(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV, the extra clips, is not installed")
    root = real_data / "pocus_lung_ultrasound"
    if not root.is_dir():
        pytest.skip(f"no POCUS clips at {root}")
    cohort = PocusLungUltrasound(root=root).load(tmp_path)
    paths = {Path(name).name: path for name, path in
             zip(cohort.frame["sample_id"], cohort.frame["path"], strict=True)}  # fmt: skip
    videos = sorted((root / "videos").iterdir())
    assert len(videos) == 9
    for video in videos[:3]:
        ours = ClipMedium().decode(video, 96, "squash").astype(float)
        theirs = cohort.medium.decode(cohort.root / paths[video.name], 96, "squash").astype(float)
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9
