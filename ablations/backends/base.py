"""What a backend is: seats for jobs, and word of how each ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from ablations.workers import Job, Outcome


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A job that is over; ``outcomes`` is None where its process died or could not be reached.

    ``deaths`` counts the processes that died of it: none where it is nobody's fault.
    """

    job: Job
    outcomes: list[Outcome] | None
    deaths: int = 0


class Backend(ABC):
    """Runs jobs, one at a time in a process. What the numbers are is none of its business."""

    @abstractmethod
    def has_seat(self, job: Job) -> bool:
        """Say whether a process is free that suits the job."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Start a job; there must be a seat for it."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Ended]:
        """Return what has ended, after ``seconds`` at the latest."""

    @abstractmethod
    def close(self) -> None:
        """Give up what still runs, at once."""
