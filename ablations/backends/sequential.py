"""Sequential: jobs run in this process, where a debugger reaches them."""

from __future__ import annotations

from ablations.backends.base import Backend, Ended
from ablations.workers import Job, run_job


class Sequential(Backend):
    """One seat: this process."""

    def __init__(self) -> None:
        self._job: Job | None = None

    def has_seat(self, job: Job) -> bool:
        """Say whether no job waits."""
        return self._job is None

    def start(self, job: Job) -> None:
        """Take a job; it runs when its end is waited for."""
        self._job = job

    def wait(self, seconds: float) -> list[Ended]:
        """Run the job."""
        job, self._job = self._job, None
        return [] if job is None else [Ended(job=job, outcomes=run_job(job))]

    def close(self) -> None:
        """Forget a job that has not begun."""
        self._job = None
