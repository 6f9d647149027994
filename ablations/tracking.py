"""What a ledger is told, and where: records of trials, names, values, addresses; no MLflow here."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_NAME, MAX_PARAM, MAX_TAG = 250, 6000, 5000  # characters that every MLflow store accepts
STUDY_TAG, KIND_TAG, KEY_TAG = "melssl.study", "melssl.kind", "melssl.trial_key"
FAILED_TAG, NOT_FINITE_TAG, MISSING_TAG = "melssl.failed", "melssl.not_finite", "melssl.missing"
Point = tuple[str, int, float]  # series, step, value


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What MLflow shows of one trial; ``failed`` is the reason, ``finished_at`` unix seconds."""

    key: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: tuple[Point, ...] = ()
    artifacts: tuple[Path, ...] = ()
    tags: Mapping[str, str]
    failed: str | None = None
    seconds: float
    finished_at: float

    @property
    def status(self) -> str:
        """FINISHED or FAILED, as MLflow calls them."""
        return "FINISHED" if self.failed is None else "FAILED"

    def told_by(self, status: str | None) -> bool:
        """Say whether a run of that status tells all there is to tell of this trial."""
        return status in ("FINISHED", self.status)

    def points(self) -> list[Point]:
        """Return the metrics at step 0, then the curves under ``curves/``."""
        curves = [(f"curves/{series}", step, value) for series, step, value in self.curves]
        return scores(self.metrics) + curves

    def labels(self, study: str) -> dict[str, str]:
        """Return the tags by which the run is found again, and those that were given."""
        marks = {STUDY_TAG: study, KIND_TAG: "trial", KEY_TAG: self.key}
        reason = {FAILED_TAG: self.failed} if self.failed is not None else {}
        given = safe_values({**self.tags, **reason}, MAX_TAG)
        return given | faults(self.points(), self.artifacts) | marks


def scores(metrics: Mapping[str, float]) -> list[Point]:
    """Return metrics as points at step 0."""
    return [(name, 0, value) for name, value in metrics.items()]


def faults(points: Sequence[Point], artifacts: Sequence[Path]) -> dict[str, str]:
    """Name in tags what is left out: missing files; NaN and infinities, where stores disagree."""
    lost = {name for name, _, value in points if not math.isfinite(value)}
    missing = {path.name for path in artifacts if not path.exists()}
    found = {NOT_FINITE_TAG: lost, MISSING_TAG: missing}
    return safe_values(
        {tag: ", ".join(sorted(names)) for tag, names in found.items() if names}, MAX_TAG
    )


def default_uri(out: Path) -> str:
    """Return MLFLOW_TRACKING_URI where it is set, else a SQLite file anchored to ``out``."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return given or sqlite_uri(out.expanduser().resolve() / "mlflow.db")


def ui_command(uri: str) -> str:
    """Return the shell command that shows what is in the store at ``uri``."""
    if uri.startswith(("http://", "https://")):
        return f"python -m webbrowser {shlex.quote(uri)}"
    ours = str(Path(sys.executable).with_name("mlflow"))
    program = "mlflow" if shutil.which("mlflow") == ours else shlex.quote(ours)
    switch = "MLFLOW_ALLOW_FILE_STORE=true " if uri.startswith("file:") or ":" not in uri else ""
    return f"{switch}{program} ui --backend-store-uri {shlex.quote(uri)}"


def without_password(text: str) -> str:
    """Return ``text`` with the user and password of any address in it blotted out."""
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def sqlite_uri(path: Path) -> str:
    """Return the SQLAlchemy address of an absolute path; spaces stay, ``%`` and ``?`` do not."""
    return f"sqlite:///{path.as_posix().replace('%', '%25').replace('?', '%3F')}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file that a ``sqlite:`` address names, None for memory and for other stores."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return Path(name).resolve() if name and name != ":memory:" else None


def safe_name(*parts: str) -> str:
    """Join parts by ``/`` to a name that MLflow accepts: ``score at 95 %`` -> ``score at 95 pct``.

    A slash inside one of several parts becomes ``_``, so that metric, cell and ``mean`` stay three
    levels. A name over 250 characters is cut and ends in a digest of the whole.
    """
    inner = [part.replace("/", "_") for part in parts] if len(parts) > 1 else parts
    text = "/".join(inner).replace("%", "pct").replace("=", ":")
    steps = (step.strip() for step in re.sub(r"[^/\w.\- :]", "_", text).split("/"))
    return _short("/".join(step for step in steps if step.strip(".")) or "unnamed", MAX_NAME)


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Map each name to its safe form; of two that would fall together the later gets a digest."""
    taken: dict[str, str] = {}
    for name in dict.fromkeys(names):
        safe = safe_name(name)
        taken[name] = safe if safe not in taken.values() else safe_name(f"{safe} {_digest(name)}")
    return taken


def safe_values(values: Mapping[str, str], limit: int) -> dict[str, str]:
    """Return safe names and values of at most ``limit`` characters; a cut one ends in a digest."""
    names = safe_names(values)
    return {names[name]: _short(str(value), limit) for name, value in values.items()}


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 21]}.{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
