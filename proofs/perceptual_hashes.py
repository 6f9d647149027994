"""Would a perceptual hash of a kept library serve the audit? Copies found, lesions called one.

    pip install imagehash==4.3.2
    python -m proofs.perceptual_hashes --data ../shared/data

Hashes of ImageHash, best of the eight orientations, on HAM10000: what share of altered copies lies
within so many bits of its original, and how many pairs of two lesion ids lie as near. The project
does not depend on the library; near_duplicates.py has the same figures for the audit's own way.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from proofs.altered_copies import copies
from proofs.table import markdown

SIDE = 64  # as large as the thumbnails that the audit compares
TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
KINDS = {"phash": (8, 3, 6, 12), "dhash": (8, 3, 6, 12), "phash 256": (16, 15, 32, 64)}
BLOCK = 200

Hash = Callable[[Image.Image], np.ndarray]


def hash_of(kind: str) -> Hash:
    """Return a function from a picture to its bits, uint64 words."""
    import imagehash

    function, size = getattr(imagehash, kind.split()[0]), KINDS[kind][0]
    return lambda picture: np.packbits(function(picture, hash_size=size).hash).view(np.uint64)


def turned(file: Path, bits: Hash) -> np.ndarray:
    """Return the hashes of a file in eight orientations, (8, words); the first is as it is."""
    with Image.open(file) as image:
        picture = image.convert("RGB").resize((SIDE, SIDE))
    sides = (picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    return np.stack([bits(x) for side in sides for x in (side, *map(side.transpose, TURNS))])


def pairs_within(hashes: np.ndarray, lesion: np.ndarray, limits: Sequence[int]) -> np.ndarray:
    """Count pairs of two lesions within each limit of bits; ``hashes`` is (N, 8, words)."""
    counts = np.zeros(len(limits), dtype=np.int64)
    for start in range(0, len(hashes), BLOCK):
        rows = hashes[start : start + BLOCK, 0]
        apart = np.full((len(rows), len(hashes)), np.iinfo(np.int64).max)
        for turn in range(hashes.shape[1]):
            differing = np.bitwise_count(rows[:, None] ^ hashes[None, :, turn]).sum(axis=-1)
            apart = np.minimum(apart, differing.astype(np.int64))
        later = np.arange(len(hashes)) > np.arange(start, start + len(rows))[:, None]
        others = later & (lesion[start : start + len(rows), None] != lesion)
        counts += [int((others & (apart <= limit)).sum()) for limit in limits]
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, for every hash, copies found by alteration and pairs of two lesions."""
    parser = argparse.ArgumentParser(prog="python -m proofs.perceptual_hashes", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ham10000")
    parser.add_argument("--copies", type=int, default=150, help="of each alteration")
    args = parser.parse_args(arguments)
    if importlib.util.find_spec("imagehash") is None:
        print("expected the library ImageHash, found none: pip install imagehash", file=sys.stderr)
        return 2
    files = sorted((args.data / "ham10000").rglob("*.jpg"))
    table = pd.read_csv(args.data / "ham10000" / "HAM10000_metadata.csv").set_index("image_id")
    lesion = table.loc[[file.stem for file in files], "lesion_id"].factorize()[0]
    place = {file: row for row, file in enumerate(files)}
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = copies(files, args.copies, 0, Path(folder) / "copies")
        for kind, (_, *limits) in KINDS.items():
            bits = hash_of(kind)
            hashes = np.stack([turned(file, bits) for file in files])
            near: dict[str, list[int]] = {}
            for copy in made:
                differing = np.bitwise_count(
                    turned(copy.file, bits) ^ hashes[place[copy.original], 0]
                )
                near.setdefault(copy.change, []).append(int(differing.sum(axis=-1).min()))
            wrong = pairs_within(hashes, lesion, limits)
            for limit, count in zip(limits, wrong, strict=True):
                rows.setdefault("", []).append(f"{kind}, {limit} bits")
                for change, nearest in near.items():
                    found = 100 * np.mean(np.array(nearest) <= limit)
                    rows.setdefault(change, []).append(f"{found:.1f}")
                rows.setdefault("pairs of two lesions", []).append(f"{count:,}")
    print(markdown(("copies found, %", *rows.pop("")), [(name, *x) for name, x in rows.items()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
