"""Users: which studies and searches use a vault, told by the vault itself."""

from __future__ import annotations

import getpass
import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ablations.keeping.check import SEARCH
from ablations.status import STUDY
from ablations.vault import Vault
from melssl.errors import ArtifactError
from melssl.files import HOST, write_atomically
from melssl.settings import Json, digest


@dataclass(frozen=True, kw_only=True)
class User:
    """A study or search: where its description lies, on which host, and what it says."""

    path: Path
    host: str
    data: dict[str, Json]

    @property
    def is_search(self) -> bool:
        """Whether it is a search."""
        return self.path.name == SEARCH

    @property
    def folder(self) -> Path:
        """The folder of the study."""
        return self.path.parent


def remember(vault: Vault, path: Path) -> None:
    """Leave word in the vault that the study or search described at ``path`` uses it."""
    word = {"path": str(path.resolve()), "host": HOST, "user": _user()}
    word["data"] = json.loads(path.read_text())
    with suppress(OSError):  # a vault that cannot be written to cannot be swept either
        note = vault.root / "users" / f"{digest([HOST, word['path']])}.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(word, indent=1).encode())


def users(vault: Vault, studies: Path) -> Iterator[User]:
    """Yield the studies of a folder, and those elsewhere that left word in the vault.

    A study that this host had, and whose folder is gone, is none any more.

    Raises:
        ArtifactError: a description cannot be read.

    """
    here = {path.resolve() for name in (STUDY, SEARCH) for path in studies.glob(f"*/{name}")}
    for path in sorted(here):
        yield User(path=path, host=HOST, data=_read(path))
    for note in sorted(vault.root.glob("users/*.json")):
        word = _read(note)
        path, data = Path(str(word.get("path"))), word.get("data")
        if path in here or not isinstance(data, dict):
            continue
        if path.exists():
            yield User(path=path, host=HOST, data=_read(path))
        elif word.get("host") != HOST:
            yield User(path=path, host=str(word.get("host")), data=data)


def _read(path: Path) -> dict[str, Json]:
    try:
        data = json.loads(path.read_text())
        if not isinstance(data, dict):
            raise TypeError("expected a mapping")
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}), so nobody knows what it needs; run the study again"
            f" or delete it: rm {shlex.quote(str(path))}"
        ) from None
    return data


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
