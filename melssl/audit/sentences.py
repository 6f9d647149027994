"""What an audit found, in sentences for a terminal and for the summary."""

from __future__ import annotations

from collections.abc import Sequence

from melssl.audit.evidence import PICTURE
from melssl.audit.links import Group, Link
from melssl.audit.numbers import Listed, Numbers

SHOWN = 5
"""How many groups are named on a terminal; the report has all."""


def compared(numbers: Numbers, unit: str, similarity: float | None) -> str:
    """Say what was compared; without ``similarity`` no image was looked at."""
    text = f"{numbers.samples:,} samples of {_n(numbers.units, unit)}"
    if numbers.external_samples:
        text += f" and {numbers.external_samples:,} external samples of {numbers.external_units:,}"
    how = "ids and lists only"
    if numbers.files_read:
        how = f"the bytes of {numbers.files_read:,} files"
        how += f" and their looks (similarity from {similarity:g})" if similarity else ""
    absent = f"; {numbers.files_absent:,} files are not there" if numbers.files_absent else ""
    return f"{text} compared by {how}{absent}; {numbers.seconds:.1f} s"


def declared(numbers: Numbers) -> list[str]:
    """Say of every list what has become of its pairs."""
    return [
        f"{_n(found.pairs, 'pair')} declared by {by}: {_fate(found)}"
        for by, found in numbers.declared.items()
    ]


def _fate(found: Listed) -> str:
    if found.one == found.pairs:
        return "one side of each is left out"
    if found.none == found.pairs:
        return "none of them is in the cohort"
    parts = ((found.one, "one side left out"), (found.both, "both in"), (found.none, "neither in"))
    return ", ".join(f"{n:,} with {text}" for n, text in parts if n)


def merged(
    groups: Sequence[Group], numbers: Numbers, unit: str, *, merge: bool, shown: int
) -> list[str]:
    """Say which units are linked and by how many pairs of what kind."""
    several = [group for group in groups if group.n_units > 1]
    if not several:
        return [f"no two {_plural(unit)} are linked"]
    n_units = sum(group.n_units for group in several)
    verb = "are merged into" if merge else "belong together and are NOT merged: they are"
    head = f"{_n(n_units, unit)} {verb} {len(several):,} ({kinds(numbers, across=True)})"
    return [head, *_named(several, shown)]


def redundant(numbers: Numbers, unit: str) -> list[str]:
    """Say how many samples repeat a picture of their own unit."""
    if not numbers.redundant:
        return []
    within = kinds(numbers, across=False)
    verb = "repeats" if numbers.redundant == 1 else "repeat"
    return [f"{_n(numbers.redundant, 'sample')} {verb} a picture of the same {unit} ({within})"]


def straddles(groups: Sequence[Group], *, shown: int) -> list[str]:
    """Say which groups stand in several official splits or in cohort and external cohort."""
    splits = [group for group in groups if len(group.splits) > 1]
    pools = [group for group in groups if group.patients and group.external]
    found = []
    if splits:
        names = ", ".join(sorted({name for group in splits for name in group.splits}))
        found = [
            f"{_n(len(splits), 'group')} straddle official splits ({names})",
            *_named(splits, shown),
        ]
    if pools:
        found += [f"{_n(len(pools), 'group')} stand in both cohorts", *_named(pools, shown)]
    return found


def conflicts(links: Sequence[Link], *, shown: int) -> list[str]:
    """Name the pictures that have two labels."""
    if not links:
        return []
    text = [
        f"  {link.first.sample_id} is {link.first.label},"
        f" {link.second.sample_id} is {link.second.label} ({link.kind})"
        for link in links[:shown]
    ]
    head = f"LABEL CONFLICT: {_n(len(links), 'pair')} of one picture with two labels"
    return [head, *text, *_more(len(links), shown)]


def faults(n: int) -> list[str]:
    """Say how many files could not be read."""
    return [f"{_n(n, 'file')} could not be read"] if n else []


def kinds(numbers: Numbers, *, across: bool) -> str:
    """Count the pairs by kind: those of two units, or those within one."""
    words = {"lesion": "same-lesion", "bytes": "byte-identical", "near": "near-identical"}
    counted = [
        (words.get(kind, kind), p.across if across else p.total - p.across)
        for kind, p in numbers.pairs.items()
        if across or kind in PICTURE
    ]
    return ", ".join(_n(n, f"{word} pair") for word, n in counted if n) or "no pair"


def _named(groups: Sequence[Group], shown: int) -> list[str]:
    return [*(f"  {group}" for group in groups[:shown]), *_more(len(groups), shown)]


def _more(n: int, shown: int) -> list[str]:
    return [f"  ... and {n - shown:,} more"] if n > shown else []


def _n(n: int, word: str) -> str:
    return f"{n:,} {word if n == 1 else _plural(word)}"


def _plural(word: str) -> str:
    return f"{word}s"
