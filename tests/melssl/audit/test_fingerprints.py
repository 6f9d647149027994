"""Fingerprints: a row per file, faults named, kept ones used until their file changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melssl.audit import fingerprints as module
from melssl.audit.fingerprints import KEPT, SIDE_PX, Fingerprints, fingerprints
from melssl.data.decode import decode
from melssl.errors import ArtifactError


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Return five files of different pictures and sizes."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(5):
        made.append(tmp_path / f"p{i}.png")
        pixels = rng.integers(0, 256, (70 + i, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(made[-1], compress_level=1)
    return made


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that grows by each file decoded."""
    seen: list[Path] = []

    def counting(path: Path, size_px: int, fit: str) -> np.ndarray:
        seen.append(path)
        return decode(path, size_px, fit)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "decode", counting)
    return seen


def _same(one: Fingerprints, other: Fingerprints) -> None:
    for name in ("sha256", "coarse", "fine"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.faults == other.faults


def test_a_row_holds_the_hash_and_the_brightness_of_its_file(paths: list[Path]) -> None:
    prints = fingerprints(paths)
    assert prints.sha256.tolist() == [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
    assert prints.fine.shape == (5, SIDE_PX, SIDE_PX)
    for row, path in enumerate(paths):
        brightness = decode(path, SIDE_PX, "squash") @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(prints.fine[row], brightness, atol=0.51)
        assert prints.coarse[row, 0] == pytest.approx(brightness.mean(), rel=1e-4)


def test_a_change_of_light_moves_only_the_constant_of_the_broad_shapes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(20, 200, (64, 64, 3), dtype=np.uint8)
    for name, light in (("dark", (0, 0, 0)), ("light", (30, 10, 50))):
        Image.fromarray(pixels + np.uint8(light)).save(tmp_path / f"{name}.png")
    coarse = fingerprints([tmp_path / "dark.png", tmp_path / "light.png"]).coarse.reshape(2, 3, -1)
    np.testing.assert_allclose(coarse[0, :, 1:], coarse[1, :, 1:], atol=1e-4)
    np.testing.assert_allclose((coarse[1] - coarse[0])[:, 0], [20.54, 10, 20], atol=1e-3)


def test_what_cannot_be_read_is_named_and_its_row_is_zero(paths: list[Path]) -> None:
    missing = paths[0].with_name("missing.png")
    text, torn = paths[0].with_name("text.png"), paths[0].with_name("torn.png")
    text.write_text("no picture")
    torn.write_bytes(paths[0].read_bytes()[:2000])
    prints = fingerprints([paths[0], missing, text, torn, paths[1]])
    assert prints.faults.keys() == {1, 2, 3}
    assert "missing.png" in prints.faults[1]
    assert "UnidentifiedImageError" in prints.faults[2]
    assert str(text.parent) not in "".join(prints.faults.values())
    assert not prints.fine[1:4].any()
    assert not prints.coarse[1:4].any()
    assert [len(digest) for digest in prints.sha256] == [64, 0, 64, 64, 64]
    assert prints.fine[[0, 4]].any(axis=(1, 2)).all()


def test_workers_and_the_order_of_files_change_no_row(paths: list[Path]) -> None:
    one, other = fingerprints(paths), fingerprints(paths[::-1], workers=3)
    np.testing.assert_array_equal(one.coarse, other.coarse[::-1])
    np.testing.assert_array_equal(one.fine, other.fine[::-1])


def test_no_files_have_no_fingerprints(tmp_path: Path) -> None:
    prints = fingerprints([], cache=tmp_path)
    assert len(prints) == 0
    assert prints.fine.shape == (0, SIDE_PX, SIDE_PX)


def test_kept_fingerprints_are_taken_without_decoding(
    paths: list[Path], decoded: list[Path], tmp_path: Path
) -> None:
    cache = tmp_path / "new" / "cache"
    fresh = fingerprints(paths[:4], cache=cache)
    assert decoded == paths[:4]
    _same(fingerprints(paths[:4], cache=cache), fresh)
    assert decoded == paths[:4]
    grown = fingerprints(paths, cache=cache)
    assert decoded == paths
    _same(grown, fingerprints(paths))
    assert [file.name for file in cache.iterdir()] == [KEPT]


def test_a_changed_file_is_decoded_again_even_at_the_same_size(
    paths: list[Path], decoded: list[Path], tmp_path: Path
) -> None:
    files = [path.with_suffix(".bmp") for path in paths[:2]]
    for file in files:
        Image.new("RGB", (20, 20), "red").save(file)
    fingerprints(files, cache=tmp_path)
    before = files[1].stat()
    Image.new("RGB", (20, 20), "blue").save(files[1])
    os.utime(files[1], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert files[1].stat().st_size == before.st_size
    decoded.clear()
    _same(fingerprints(files, cache=tmp_path), fingerprints(files))
    assert decoded[0] == files[1]
    assert len(decoded) == 1 + 2
    fingerprints(files, cache=tmp_path)
    assert len(decoded) == 1 + 2


def test_a_fault_is_not_kept_because_the_file_may_be_mended(
    paths: list[Path], decoded: list[Path], tmp_path: Path
) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(paths[0].read_bytes()[:2000])
    for _ in range(2):
        assert fingerprints([torn, paths[1]], cache=tmp_path).faults.keys() == {0}
    assert decoded == [torn, paths[1], torn]


def test_a_damaged_file_of_kept_fingerprints_is_named_with_the_way_out(
    paths: list[Path], tmp_path: Path
) -> None:
    fingerprints(paths, cache=tmp_path)
    kept = tmp_path / KEPT
    kept.write_bytes(kept.read_bytes()[:-500])
    with pytest.raises(ArtifactError, match=rf"{KEPT}: expected .* delete it"):
        fingerprints(paths, cache=tmp_path)
