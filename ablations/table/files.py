"""The files of a table: a CSV per frame, and ``study.json`` with the digests of them all."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ablations.table.columns import ORIGIN, SCHEMAS, TEXT
from ablations.table.faults import TableError
from ablations.table.info import FactorInfo, LevelInfo, MetricInfo, StudyInfo
from melssl.files import publish, staged

FORMAT = 2
DESCRIPTION = "study.json"


def write(directory: Path, info: StudyInfo, frames: Mapping[str, pd.DataFrame]) -> None:
    """Stage all files beside their targets, then put them in place, the description last."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {f"{name}.csv": _csv(frame) for name, frame in frames.items()}
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in content.items()}
    study = {"format": FORMAT, "frames": digests, "info": dataclasses.asdict(info)}
    content[DESCRIPTION] = json.dumps(study, indent=1, allow_nan=False).encode() + b"\n"
    parts = {name: staged(directory / name, text) for name, text in content.items()}
    for name, part in parts.items():
        publish(part, directory / name)


def read(directory: Path) -> tuple[StudyInfo, dict[str, pd.DataFrame]]:
    """Return what ``write`` wrote.

    Raises:
        TableError: a file is missing, changed since, or of another format.

    """
    study = _study(directory / DESCRIPTION)
    info = _info(study["info"], directory / DESCRIPTION)
    digests = study["frames"]
    return info, {
        name: _frame(directory / f"{name}.csv", digests.get(f"{name}.csv"), info)
        for name, schema in SCHEMAS.items()
        if f"{name}.csv" in digests or not schema.later
    }


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _study(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        raise TableError(f"{path} is missing. Collect first: python -m ablations collect")
    try:
        study = json.loads(path.read_text())
        version = study["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path} is damaged ({error!r}). Collect again.") from error
    if version != FORMAT:
        raise TableError(f"{path}: expected table format {FORMAT}, got {version}. Collect again.")
    return dict(study)


def _info(raw: Mapping[str, object], path: Path) -> StudyInfo:
    try:
        fields = {name: _plain(name, value) for name, value in raw.items()}
        return StudyInfo(**fields)  # type: ignore[arg-type]
    except (TypeError, KeyError) as error:
        raise TableError(f"{path}: the description of the study is damaged: {error}") from error


def _plain(name: str, value: object) -> object:
    if name == "factors" and isinstance(value, list):
        return tuple(
            FactorInfo(**{**f, "levels": tuple(LevelInfo(**x) for x in f["levels"])}) for f in value
        )
    if name == "metrics" and isinstance(value, list):
        return tuple(MetricInfo(**metric) for metric in value)
    return tuple(value) if isinstance(value, list) else value


def _frame(path: Path, digest: str | None, info: StudyInfo) -> pd.DataFrame:
    if not path.is_file():
        raise TableError(f"{path} is missing. Collect again: python -m ablations collect")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise TableError(f"{path} is not the file that study.json describes. Collect again.")
    words = dict.fromkeys((*TEXT, *(f.name for f in info.factors if f.is_text), *ORIGIN), "str")
    # A method may be called "none": only an empty field is an empty value.
    return pd.read_csv(
        io.BytesIO(content),
        dtype=words,
        keep_default_na=False,
        na_values=[""],
    )
