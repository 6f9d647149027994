"""Reading a source's tables as text, every fault of every table collected."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import pandas as pd
from pandas.errors import ParserWarning

from melssl.errors import CohortError, listed

MissingFiles = Literal["refuse", "leave_out", "keep"]


def existing_root(source: str, root: Path | None) -> Path:
    """Return the folder that a source reads.

    Raises:
        CohortError: no folder is given, or it does not exist.

    """
    if root is None:
        raise CohortError(f"{source}: expected a folder, got none; set the source's root")
    if not root.is_dir():
        raise CohortError(f"{source}: root {root} is not a folder; set the source's root")
    return root


def read_tables(
    source: str, root: Path | None, wanted: Mapping[str, Sequence[str]], hint: str = ""
) -> dict[str, pd.DataFrame]:
    """Read CSV files below ``root``: every cell is text, stripped, and ``""`` where empty.

    ``wanted`` maps a file's name to the columns that it must have.

    Raises:
        CohortError: every missing or unreadable file and every missing column, in one list.

    """
    folder = existing_root(source, root)
    tables, faults = {}, []
    for name, columns in wanted.items():
        try:
            table = _read(folder, name)
        except (OSError, ValueError, ParserWarning) as error:  # parser errors are ValueErrors
            faults.append(f"{name}: cannot be read as a CSV file ({_reason(error)})")
            continue
        found = ", ".join(table.columns)
        faults += [
            f"{name}: column {column!r} is missing (found: {found}){hint}"
            for column in dict.fromkeys(columns)
            if column not in table
        ]
        tables[name] = table
    if faults:
        raise CohortError(f"{source} at {folder}: {len(faults)} fault(s)\n{listed(faults)}")
    return tables


def _read(folder: Path, name: str) -> pd.DataFrame:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("its name may leave the root")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)  # rows longer than the header
        # "NA" may be a patient: no text but the empty one is ever taken for a missing value
        table: pd.DataFrame = pd.read_csv(
            folder / path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig"
        )
    return pd.DataFrame({name: table[name].fillna("").str.strip() for name in table})


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error) or type(error).__name__).splitlines()[0]


def blank(values: pd.Series, missing: Sequence[str] = ("",)) -> pd.Series:
    """Return text with every one of ``missing`` made NaN."""
    return values.astype(object).mask(values.isin(list(missing)))


def numbers(values: pd.Series, where: str) -> pd.Series:
    """Return text as float64, NaN where it is empty.

    Raises:
        CohortError: values that are no numbers, all of them named.

    """
    parsed = pd.to_numeric(blank(values), errors="coerce").astype("float64")
    wrong = sorted(set(values[parsed.isna() & (values != "")]))
    if wrong:
        raise CohortError(f"{where}: expected numbers, got\n{listed([repr(v) for v in wrong])}")
    return parsed


def encode(labels: pd.Series, index: Mapping[str, int]) -> pd.Series:
    """Return each label's class index; an unknown label stays, quoted, for Cohort to refuse."""
    codes = {label: index.get(label, repr(label)) for label in labels.unique() if label != ""}
    return labels.astype(object).map(lambda label: codes.get(label))


def keep_existing(
    frame: pd.DataFrame, root: Path, rule: MissingFiles
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows whose file exists and a note on the others.

    All rows stay under ``refuse``, for Cohort to name what is missing, and under ``keep``, which
    makes a cohort without images.
    """
    if rule == "refuse":
        return frame, ()
    here = [(root / path).is_file() for path in frame["path"]]
    absent = len(frame) - sum(here)
    if rule == "keep":
        return frame, (f"a table without images: {absent} files are missing",)
    note = (f"{absent} samples left out: their files are missing",) if absent else ()
    return frame[here], note
