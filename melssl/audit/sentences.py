"""What an audit found, in sentences for a terminal and for the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

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
    return f"{text} compared by {how}{absent}"


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


def merged(groups: Sequence[Group], unit: str, *, merge: bool, shown: int) -> list[str]:
    """Say which units are linked and by how many links of what kind."""
    several = [group for group in groups if len(group.patients) > 1]
    others = [group for group in groups if len(group.external) > 1 and not group.patients]
    text = [] if several else [f"no two {_plural(unit)} are linked"]
    if several:
        n_units = sum(len(group.patients) for group in several)
        verb = "are merged into" if merge else "belong together and are NOT merged: they are"
        links = Counter(str(link.kind) for group in several for link in group.links if link.joins)
        text = [f"{_n(n_units, unit)} {verb} {len(several):,} ({_kinds(links)})"]
        text += _named(several, shown)
    if others:
        n_units = sum(len(group.external) for group in others)
        text.append(f"{n_units:,} external ones are {len(others):,}")
    return text


def redundant(numbers: Numbers, unit: str) -> list[str]:
    """Say how many samples repeat a picture of their own unit."""
    if not numbers.redundant:
        return []
    within = {str(kind): p.total - p.across for kind, p in numbers.pairs.items() if kind in PICTURE}
    verb = "repeats" if numbers.redundant == 1 else "repeat"
    return [
        f"{_n(numbers.redundant, 'sample')} {verb} a picture of the same {unit} ({_kinds(within)})"
    ]


def straddles(groups: Sequence[Group], *, shown: int) -> list[str]:
    """Say which groups stand in several official splits or in cohort and external cohort."""
    splits = [group for group in groups if len(group.splits) > 1]
    pools = [group for group in groups if group.patients and group.external]
    found = []
    if splits:
        names = ", ".join(sorted({name for group in splits for name in group.splits}))
        verb = "straddles" if len(splits) == 1 else "straddle"
        head = f"{_n(len(splits), 'group')} {verb} official splits ({names})"
        found = [head, *_named(splits, shown)]
    if pools:
        verb = "stands" if len(pools) == 1 else "stand"
        found += [f"{_n(len(pools), 'group')} {verb} in both cohorts", *_named(pools, shown)]
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


def _kinds(counts: Mapping[str, int]) -> str:
    words = {"lesion": "same-lesion", "bytes": "byte-identical", "near": "near-identical"}
    return ", ".join(_n(n, f"{words.get(kind, kind)} pair") for kind, n in counts.items() if n)


def _named(groups: Sequence[Group], shown: int) -> list[str]:
    return [*(f"  {group}" for group in groups[:shown]), *_more(len(groups), shown)]


def _more(n: int, shown: int) -> list[str]:
    return [f"  ... and {n - shown:,} more"] if n > shown else []


def _n(n: int, word: str) -> str:
    return f"{n:,} {word if n == 1 else _plural(word)}"


def _plural(word: str) -> str:
    return f"{word}s"
