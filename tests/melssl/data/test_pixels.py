"""PixelStore: right pixels, named faults, and no trace of an interruption."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from melssl.data import pixel_build
from melssl.data.cohort import Cohort
from melssl.data.decode import decode
from melssl.data.media import image
from melssl.data.pixels import PixelStore, store_key
from melssl.errors import ArtifactError, CorruptFileError, SpecError


def _cohort(root: Path, n: int = 10, side: int = 12) -> Cohort:
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    names = [f"s{i:04d}" for i in range(n)]
    for name in names:
        if not (root / f"{name}.png").exists():
            pixels = rng.integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{name}.png", compress_level=1)
    return _cohort_of(root, names)


def _cohort_of(root: Path, names: list[str]) -> Cohort:
    paths = [f"{name}.png" for name in names]
    columns = {"sample_id": names, "path": paths, "patient_id": names, "target": 0}
    return Cohort(name="made", root=root, frame=pd.DataFrame(columns), classes=("a", "b"))


def _build(cohort: Cohort, directory: Path, **options: object) -> PixelStore:
    values = {"size_px": 8, "workers": 1, "progress": False} | options
    return PixelStore.build(cohort, directory, **values)


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_each_row_is_its_sample_decoded(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path / "images")
    store = _build(cohort, tmp_path / "store")
    assert store.pixels.shape == (10, 8, 8, 3)
    assert store.sample_ids == tuple(cohort.frame["sample_id"])
    assert len(store) == 10
    for row, path in enumerate(cohort.frame["path"]):
        np.testing.assert_array_equal(store.pixels[row], decode(cohort.root / path, 8, "crop"))


def test_a_batch_has_images_in_the_order_asked_for(tmp_path: Path) -> None:
    store = _build(_cohort(tmp_path / "images"), tmp_path / "store")
    rows = store.rows(["s0007", "s0001", "s0007"])
    assert rows.dtype == np.int64
    assert rows.tolist() == [7, 1, 7]
    batch = store.batch(rows)
    assert batch.shape == (3, 3, 8, 8)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(batch[1].permute(1, 2, 0).numpy(), store.pixels[1])


def test_rows_are_found_from_a_column_of_a_table(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path / "images")
    store = _build(cohort, tmp_path / "store")
    column = cohort.frame["sample_id"].astype("string")
    np.testing.assert_array_equal(store.rows(column), np.arange(10))


def test_samples_without_pixels_are_all_named(tmp_path: Path) -> None:
    store = _build(_cohort(tmp_path / "images"), tmp_path / "store")
    with pytest.raises(ArtifactError, match=r"2 samples .*\n  - who is not .*\n  - what is not"):
        store.rows(["s0001", "who", "what"])


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_no_byte(workers: int, tmp_path: Path) -> None:
    cohort = _cohort(tmp_path / "images", n=150)
    _build(cohort, tmp_path / "one")
    _build(cohort, tmp_path / "many", workers=workers)
    assert _files(tmp_path / "one") == _files(tmp_path / "many")


def test_a_finished_store_is_not_built_again(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path / "images")
    store = _build(cohort, tmp_path / "store")
    before = (tmp_path / "store/pixels.npy").stat().st_mtime_ns
    assert _build(cohort, tmp_path / "store").digest == store.digest
    assert (tmp_path / "store/pixels.npy").stat().st_mtime_ns == before


def test_another_store_in_the_folder_is_refused_and_the_key_tells_them_apart(
    tmp_path: Path,
) -> None:
    cohort = _cohort(tmp_path / "images")
    _build(cohort, tmp_path / "store")
    with pytest.raises(ArtifactError, match="build in another folder"):
        _build(cohort, tmp_path / "store", size_px=9)
    keys = {
        store_key(cohort, size_px=8),
        store_key(cohort, size_px=9),
        store_key(cohort, size_px=8, fit="squash"),
        store_key(cohort.without(["s0000"], "test"), size_px=8),
    }
    assert len(keys) == 4
    assert store_key(_cohort(tmp_path / "images"), size_px=8) in keys


def test_a_size_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="size_px"):
        _build(_cohort(tmp_path / "images"), tmp_path / "store", size_px=0)


def _damage(root: Path) -> dict[str, str]:
    (root / "s0003.png").write_bytes(b"no image")
    whole = (root / "s0005.png").read_bytes()
    (root / "s0005.png").write_bytes(whole[: len(whole) // 2])
    (root / "s0008.png").write_bytes(b"")
    return {"s0003": "cannot identify", "s0005": "truncated", "s0008": "cannot identify"}


def test_corrupt_files_are_all_named_and_nothing_looks_finished(tmp_path: Path) -> None:
    _cohort(tmp_path / "images")
    damaged = _damage(tmp_path / "images")
    cohort = _cohort(tmp_path / "images")
    with pytest.raises(CorruptFileError, match=r"3 image\(s\) cannot be decoded") as caught:
        _build(cohort, tmp_path / "store")
    assert all(name in str(caught.value) for name in damaged)
    with pytest.raises(ArtifactError, match="expected a finished pixel store"):
        PixelStore.open(tmp_path / "store")


def test_corrupt_files_can_be_excluded_with_their_reason(tmp_path: Path) -> None:
    _cohort(tmp_path / "images", n=150)
    damaged = _damage(tmp_path / "images")
    cohort = _cohort(tmp_path / "images", n=150)
    store = _build(cohort, tmp_path / "store", on_corrupt="exclude")
    assert list(store.excluded) == list(damaged)
    assert all(part in store.excluded[name] for name, part in damaged.items())
    assert not any(str(tmp_path) in reason for reason in store.excluded.values())
    assert store.pixels.shape[0] == len(store) == 147
    good = [name for name in cohort.frame["sample_id"] if name not in damaged]
    assert store.sample_ids == tuple(good)
    for name in ("s0000", "s0004", "s0009", "s0149"):
        expected = decode(cohort.root / f"{name}.png", 8, "crop")
        np.testing.assert_array_equal(store.pixels[store.rows([name])[0]], expected)
    with pytest.raises(ArtifactError, match="s0003 was excluded: UnidentifiedImageError"):
        store.rows(["s0003"])
    assert _build(cohort, tmp_path / "store", on_corrupt="exclude").digest == store.digest
    with pytest.raises(CorruptFileError, match="s0005"):
        _build(cohort, tmp_path / "store")


def test_a_cohort_without_one_good_image_is_refused(tmp_path: Path) -> None:
    _cohort(tmp_path / "images", n=2)
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"2 image\(s\)"):
        _build(_cohort(tmp_path / "images", n=2), tmp_path / "store", on_corrupt="exclude")


def test_verify_notices_one_changed_byte(tmp_path: Path) -> None:
    _build(_cohort(tmp_path / "images"), tmp_path / "store")
    PixelStore.open(tmp_path / "store", verify=True)
    with (tmp_path / "store/pixels.npy").open("r+b") as handle:
        handle.seek(-1, 2)
        last = handle.read(1)[0]
        handle.seek(-1, 2)
        handle.write(bytes([last ^ 1]))
    PixelStore.open(tmp_path / "store")
    with pytest.raises(ArtifactError, match="differ from their digest"):
        PixelStore.open(tmp_path / "store", verify=True)


def _cut_array(store: Path) -> None:
    whole = (store / "pixels.npy").read_bytes()
    (store / "pixels.npy").write_bytes(whole[:-10])


def _pickled_array(store: Path) -> None:
    np.save(store / "pixels.npy", np.array([{"run": "code"}], dtype=object))


def _other_version(store: Path) -> None:
    text = (store / "manifest.json").read_text()
    (store / "manifest.json").write_text(text.replace("melssl-pixels-1", "melssl-pixels-0"))


def _torn_manifest(store: Path) -> None:
    (store / "manifest.json").write_text('{"identity": {')


@pytest.mark.parametrize("damage", [_cut_array, _pickled_array, _other_version, _torn_manifest])
def test_a_damaged_store_is_refused_with_the_way_out(damage: object, tmp_path: Path) -> None:
    _build(_cohort(tmp_path / "images"), tmp_path / "store")
    assert callable(damage)
    damage(tmp_path / "store")
    with pytest.raises(ArtifactError, match="delete the folder and build again"):
        PixelStore.open(tmp_path / "store")


def test_a_store_travels_to_another_process_by_its_folder(tmp_path: Path) -> None:
    store = _build(_cohort(tmp_path / "images"), tmp_path / "store", size_px=64)
    frozen = pickle.dumps(store)
    assert len(frozen) < 500
    np.testing.assert_array_equal(pickle.loads(frozen).pixels, store.pixels)


BUILDER = """
import sys, time
from pathlib import Path
import pandas as pd
from melssl.data.media import image
from melssl.data.cohort import Cohort
from melssl.data.pixels import PixelStore

images, store, pause_s = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
quick = image.decode
def slow(*arguments):
    time.sleep(pause_s)
    return quick(*arguments)
image.decode = slow
names = sorted(path.stem for path in images.iterdir())
columns = {"sample_id": names, "path": [name + ".png" for name in names], "patient_id": names}
frame = pd.DataFrame(columns | {"target": 0})
cohort = Cohort(name="made", root=images, frame=frame, classes=("a", "b"))
PixelStore.build(cohort, store, size_px=8, workers=1, progress=False)
assert "torch" not in sys.modules
"""


def _builder(images: Path, store: Path, pause_s: float) -> subprocess.Popen[bytes]:
    arguments = [str(images), str(store), str(pause_s)]
    return subprocess.Popen([sys.executable, "-c", BUILDER, *arguments])


def _journal(store: Path) -> list[str]:
    path = store / "unfinished/journal.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = _cohort(tmp_path / "images", n=256)
    process = _builder(tmp_path / "images", tmp_path / "killed", 0.004)
    while len(_journal(tmp_path / "killed")) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    saved = [json.loads(line) for line in _journal(tmp_path / "killed")]
    with pytest.raises(ArtifactError, match="expected a finished pixel store"):
        PixelStore.open(tmp_path / "killed")

    decoded = []
    monkeypatch.setattr(
        image, "decode", lambda path, *rest: (decoded.append(path), decode(path, *rest))[1]
    )
    _build(cohort, tmp_path / "killed")
    assert len(decoded) == 256 - sum(stop - start for start, stop, _ in saved)
    _build(cohort, tmp_path / "whole")
    assert _files(tmp_path / "killed") == _files(tmp_path / "whole")


def test_chunks_that_did_not_reach_the_disk_are_decoded_again(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path / "images", n=200)
    (cohort.root / "s0199.png").write_bytes(b"no image")
    damaged = _cohort(tmp_path / "images", n=200)
    with pytest.raises(CorruptFileError):
        _build(damaged, tmp_path / "store")
    work = tmp_path / "store/unfinished"
    journal = (work / "journal.jsonl").read_text().splitlines()
    assert len(journal) == 3
    (work / "journal.jsonl").write_text("\n".join([*journal[:2], journal[2][:20]]))
    with (work / "pixels.npy").open("r+b") as array:
        array.seek(128)
        array.write(bytes(500))
    _build(damaged, tmp_path / "store", on_corrupt="exclude")
    _build(damaged, tmp_path / "whole", on_corrupt="exclude")
    assert _files(tmp_path / "store") == _files(tmp_path / "whole")


def test_a_build_stopped_before_its_manifest_is_finished_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = _cohort(tmp_path / "images")
    with monkeypatch.context() as patch:
        patch.setattr("melssl.data.pixels.Manifest", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _build(cohort, tmp_path / "store")
    assert (tmp_path / "store/pixels.npy").exists()
    monkeypatch.setattr(image, "decode", lambda *_: 1 / 0)
    PixelStore.open(_build(cohort, tmp_path / "store").directory, verify=True)


def test_what_another_cohort_left_unfinished_is_thrown_away(tmp_path: Path) -> None:
    _cohort(tmp_path / "images", n=130)
    (tmp_path / "images/s0129.png").write_bytes(b"no image")
    with pytest.raises(CorruptFileError):
        _build(_cohort(tmp_path / "images", n=130), tmp_path / "store")
    good = _cohort_of(tmp_path / "images", [f"s{i:04d}" for i in range(1, 100)])
    _build(good, tmp_path / "store")
    _build(good, tmp_path / "whole")
    assert _files(tmp_path / "store") == _files(tmp_path / "whole")


def test_two_builders_at_once_agree_and_only_one_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = _cohort(tmp_path / "images", n=150)
    decoded = []
    monkeypatch.setattr(
        image, "decode", lambda path, *rest: (decoded.append(path), decode(path, *rest))[1]
    )
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(_build, cohort, tmp_path / "store") for _ in range(2)]
        first, second = (build.result() for build in builds)
    assert first.digest == second.digest
    assert len(decoded) == 150


def test_two_builder_processes_at_once_end_with_one_whole_store(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path / "images", n=256)
    builders = [_builder(tmp_path / "images", tmp_path / "store", 0.001) for _ in range(2)]
    assert [process.wait(timeout=60) for process in builders] == [0, 0]
    PixelStore.open(tmp_path / "store", verify=True)
    _build(cohort, tmp_path / "whole")
    assert _files(tmp_path / "store") == _files(tmp_path / "whole")


def test_a_store_that_does_not_fit_on_the_disk_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixel_build.os, "posix_fallocate", full)
    monkeypatch.setattr(image, "decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ArtifactError, match=r"0\.0 GB cannot be reserved .*No space left"):
        _build(_cohort(tmp_path / "images"), tmp_path / "store")


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _build(_cohort(tmp_path / "images"), tmp_path / "store", progress=True)
    captured = capsys.readouterr()
    assert "10/10" in captured.err
    assert captured.out == ""
