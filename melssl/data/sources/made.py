"""Sources that draw their files themselves, below the cache: whole or not at all, and once."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import field_validator

from melssl.data.sources.base import SourceConfig
from melssl.files import part_of, write_digests
from melssl.settings import digest


class MadeSource(SourceConfig):
    """A source whose files follow from its settings alone: it has no ``root``."""

    @field_validator("root")
    @classmethod
    def _has_none(cls, root: Path | None) -> None:
        if root is not None:
            source = cls.model_fields["source"].default
            raise ValueError(f"{source} draws its own files; --source names what reads yours")

    def drawn(
        self, cache: Path, draw: Callable[[Path], None], *, by: Sequence[str], apart: str = ""
    ) -> Path:
        """Return the folder of its files below ``cache``, filled by ``draw`` where it is not there.

        Its name hashes the settings, but for the one called ``apart``, and the modules ``by`` of
        this package that draw: a changed drawing never meets old files.
        """
        files = (Path(__file__).with_name(f"{module}.py") for module in by)
        source = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        settings = {name: value for name, value in self.plain().items() if name != apart}
        return made_once(cache / f"{self.source}-{digest([settings, source])}", draw)


def made_once(root: Path, write: Callable[[Path], None]) -> Path:
    """Return ``root``, filled by ``write`` where it is not there yet.

    Safe if several processes do so at once: the folder appears whole, and the first one wins.
    """
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    scratch = part_of(root)
    try:
        scratch.mkdir()
        write(scratch)
        write_digests(scratch)
        os.sync()
        _publish(scratch, root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def _publish(made: Path, final: Path) -> None:
    try:
        made.rename(final)
    except OSError:
        if not final.is_dir():  # else another process was first, with the same content
            raise
