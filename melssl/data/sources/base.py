"""SourceConfig: the settings of a source and how it becomes a Cohort."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from melssl.data.cohort import Cohort
from melssl.data.media.base import Medium
from melssl.data.media.image import ImageMedium
from melssl.settings import Settings, UserPath


class SourceConfig(Settings):
    """What to read and how; a subclass per source, named by its literal field ``source``.

    ``root`` is where the files lie. It never enters a key: the cohort's digest does.
    """

    label: ClassVar[str]
    source: str
    root: UserPath | None = None

    @property
    def medium(self) -> Medium:
        """What its samples are, and how they are decoded; images unless a source says otherwise."""
        return ImageMedium()

    @abstractmethod
    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort.

        ``cache`` is a folder that a source may write to (made images, unpacked archives).

        Raises:
            CohortError: the root, a table or a file is not what the source expects.

        """
