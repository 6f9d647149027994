"""The error tree: what went wrong, where, and what to do next.

    MelsslError
    ├── SpecError            a setting is unknown, of the wrong type or out of range
    ├── CohortError          files or tables of a cohort cannot be used as they are
    │   └── CorruptFileError     one or more files cannot be decoded
    ├── SplitError           folds or budgets that the cohort cannot give
    │   └── PatientOverlapError  a patient would stand on two sides
    ├── BackboneError        a backbone cannot do what a method asks of it
    ├── TrainingError        training cannot go on
    │   ├── NotFiniteError       a loss became NaN or infinite
    │   └── WatchdogError        a training goes wrong and was to be stopped then
    ├── ArtifactError        something on disk is damaged, missing or of another version
    ├── PictureError         an encoder cannot be shown in a way that was asked for
    └── MissingExtraError    an optional package is not installed

A message has four parts: expected, got, where, next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from importlib.util import find_spec


class MelsslError(Exception):
    """Base of every error that melssl raises on purpose; its text is meant for the user."""


class SpecError(MelsslError):
    """A setting is unknown, of the wrong type or out of range."""


class CohortError(MelsslError):
    """Files or tables of a cohort cannot be used as they are."""


class CorruptFileError(CohortError):
    """One or more image files cannot be decoded."""


class SplitError(MelsslError):
    """The cohort cannot give the folds or the label budget that were asked for."""


class PatientOverlapError(SplitError):
    """A patient would stand on two sides of a split."""


class BackboneError(MelsslError):
    """A backbone cannot do what a method asks of it."""


class TrainingError(MelsslError):
    """Training cannot go on."""


class NotFiniteError(TrainingError):
    """A loss became NaN or infinite."""


class WatchdogError(TrainingError):
    """A training goes wrong, and was asked to stop then."""


class ArtifactError(MelsslError):
    """Something on disk is damaged, missing or of another version."""


class PictureError(MelsslError):
    """An encoder cannot be shown in a way that was asked for."""


class MissingExtraError(MelsslError):
    """An optional package is not installed."""


class Interrupted(KeyboardInterrupt):  # a wish, no error
    """A training was asked to end before its end; its state is saved first."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'? known: a, b, x"`` for an unknown name."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def listed(faults: Sequence[str], limit: int = 20) -> str:
    """Join faults into one indented list, the first ``limit`` in full and the rest counted."""
    lines = [f"  - {fault}" for fault in faults[:limit]]
    if len(faults) > limit:
        lines.append(f"  - ... and {len(faults) - limit} more")
    return "\n".join(lines)


def require(package: str, extra: str, use: str) -> None:
    """Refuse to go on without an optional package; ``use`` says what needs it.

    Raises:
        MissingExtraError: it is not installed; the extra that brings it is named.

    """
    if find_spec(package) is None:
        raise MissingExtraError(
            f"{use}: expected the package {package}, found none; install the extra:"
            f" python -m pip install '.[{extra}]'"
        )
