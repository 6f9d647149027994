"""Which copies does the audit find, what does it merge wrongly, and how long does it take?

    python -m proofs.near_duplicates --data ../shared/data

Altered copies are looked for among all originals. What is found between two lesions of HAM10000 was
looked at by eye, all of it down to a similarity of .70; ``ONE_LESION`` keeps the verdicts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from melssl.audit.fingerprints import Fingerprints, fingerprints
from melssl.audit.near import NEAR, NearPair, near_pairs
from proofs.altered_copies import CHANGES, Copy, copies
from proofs.table import markdown

SETS = {
    "SIIM-ISIC test": "siim_isic_2020/jpeg/test",
    "HAM10000": "ham10000",
    "ISIC 2017": "isic2017/images",
    "cats and dogs": "cats_vs_dogs",
}
SKIN = tuple(SETS)[:3]
THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.90)

# HAM10000, two lesion ids, similarity .70 or more: the pairs that show one lesion.
ONE_LESION = {
    ("ISIC_0027027", "ISIC_0029036"),
    ("ISIC_0025387", "ISIC_0029880"),
    ("ISIC_0025226", "ISIC_0030074"),
    ("ISIC_0027636", "ISIC_0027994"),
    ("ISIC_0027820", "ISIC_0030835"),
    ("ISIC_0029152", "ISIC_0033173"),
    ("ISIC_0027689", "ISIC_0032647"),
    ("ISIC_0034228", "ISIC_0034248"),
    ("ISIC_0028014", "ISIC_0028585"),
    ("ISIC_0033421", "ISIC_0033481"),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a set of files holds, and the seconds it took."""

    prints: Fingerprints
    pairs: list[NearPair]  # down to the lowest threshold
    fingerprinting_s: float
    matching_s: float
    processor_s: float  # of all threads: what an idle machine's cores have to share

    def near(self, threshold: float = NEAR) -> list[NearPair]:
        """Return the pairs at a threshold."""
        return [pair for pair in self.pairs if pair.similarity >= threshold]


def find(paths: Sequence[Path], workers: int) -> Found:
    """Audit files from nothing, timed."""
    busy = time.process_time()
    times = [time.perf_counter()]
    prints = fingerprints(paths, workers=workers)
    times.append(time.perf_counter())
    pairs = near_pairs(prints, THRESHOLDS[0], workers=workers)
    times.append(time.perf_counter())
    first, second = np.diff(times)
    busy = time.process_time() - busy
    return Found(
        prints=prints, pairs=pairs, fingerprinting_s=first, matching_s=second, processor_s=busy
    )


def largest_group(found: Found) -> int:
    """Return the most pictures that near pairs chain together, of byte-identical files one."""
    ends = np.array([(pair.first, pair.second) for pair in found.near()]).reshape(-1, 2).T
    n = len(found.prints)
    links = coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(n, n))
    return int(np.bincount(connected_components(links, directed=False)[1]).max())


def found_table(made: Mapping[str, Found]) -> str:
    """Return what each set holds, and how long it took to find."""
    counted = ("n", "unreadable", "byte-identical pairs", "near pairs", "largest chain")
    rows = []
    for name, found in made.items():
        times = np.unique(found.prints.sha256, return_counts=True)[1]
        identical = int((times * (times - 1) // 2).sum())
        files = (len(found.prints), len(found.prints.faults))
        counts = (*files, identical, len(found.near()), largest_group(found))
        seconds = (found.fingerprinting_s, found.matching_s, found.processor_s)
        rows.append((name, *map(str, counts), *(f"{second:.1f}" for second in seconds)))
    timed = ("fingerprints, s", "matching, s", "processor, s")
    return markdown(("files", *counted, *timed), rows)


def recalled(found: Found, paths: Sequence[Path], made: Sequence[Copy]) -> dict[str, list[float]]:
    """Return each copy's similarity to its original (or 0), by change, in the order made."""
    # of byte-identical files one stands for all, so a copy may be paired with its original's twin
    sha256 = dict(zip(paths, found.prints.sha256, strict=True))
    best = {
        frozenset((found.prints.sha256[pair.first], found.prints.sha256[pair.second])): pair
        for pair in found.pairs
    }
    similarity: dict[str, list[float]] = {change: [] for change in CHANGES}
    for copy in made:
        ends = frozenset((sha256[copy.original], sha256[copy.file]))
        pair = best.get(ends)
        alike = 1.0 if len(ends) == 1 else pair.similarity if pair else 0.0
        similarity[copy.change].append(alike)
    return similarity


def recall_table(similarities: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the share of copies found at ``NEAR``, and at .05 less and more."""
    around = (NEAR - 0.05, NEAR, NEAR + 0.05)
    rows = []
    for change in CHANGES:
        cells = []
        for values in similarities.values():
            shares = [np.mean(np.array(values[change]) >= threshold) for threshold in around]
            cells.append(" / ".join(f"{100 * share:.1f}" for share in shares))
        rows.append((change, *cells))
    title = f"copies found, % (from {' / '.join(f'{threshold:.2f}' for threshold in around)})"
    return markdown((title, *similarities), rows)


def merge_table(paths: Sequence[Path], found: Found, lesions: Mapping[str, str]) -> str:
    """Return, by threshold, pairs within and between lesions, and how the latter were judged."""
    rows = []
    for threshold in THRESHOLDS:
        names = [(paths[p.first].stem, paths[p.second].stem) for p in found.near(threshold)]
        between = [pair for pair in names if lesions[pair[0]] != lesions[pair[1]]]
        true = sum(tuple(sorted(pair)) in ONE_LESION for pair in between)
        counts = (len(names) - len(between), len(between), true, len(between) - true)
        rows.append((f"{threshold:.2f}", *map(str, counts)))
    head = ("threshold", "within a lesion", "between two lesion ids", "one lesion, by eye", "wrong")
    return markdown(head, rows)


def _lesions(table: Path) -> dict[str, str]:
    frame = pd.read_csv(table)
    return dict(zip(frame["image_id"], frame["lesion_id"], strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found and how fast, the share of copies found, and wrong merges."""
    parser = argparse.ArgumentParser(prog="python -m proofs.near_duplicates", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=300, help="originals copied, per set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    args = parser.parse_args(arguments)
    files = {name: sorted((args.data / SETS[name]).rglob("*.jpg")) for name in args.sets}
    found = {name: find(paths, args.workers) for name, paths in files.items()}
    print(found_table(found), flush=True)
    if "HAM10000" in files:
        lesions = _lesions(args.data / SETS["HAM10000"] / "HAM10000_metadata.csv")
        print("\n" + merge_table(files["HAM10000"], found["HAM10000"], lesions), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        made = {
            name: copies(files[name], args.copies, args.seed, Path(folder) / name)
            for name in files
            if name in SKIN
        }
        everything = [file for some in files.values() for file in some]
        everything += [copy.file for some in made.values() for copy in some]
        whole = find(everything, args.workers)
    similarity = {name: recalled(whole, everything, some) for name, some in made.items()}
    print("\n" + recall_table(similarity))
    print("\n" + found_table({"all, and the copies": whole}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
