"""Backends: where jobs run, each in a process that has one at a time."""

from __future__ import annotations

from ablations.backends.base import Backend
from ablations.options import RunOptions
from melssl.training.devices import Runtime


def open_backend(options: RunOptions, runtime: Runtime) -> Backend:
    """Return the backend that the options name; its processes start with the first jobs.

    Raises:
        SpecError: what it needs is not installed.
        ArtifactError: no cluster answers, or one of its workers cannot do this work.

    """
    if options.backend == "sequential":
        from ablations.backends.sequential import Sequential

        return Sequential()
    if options.backend == "dask":
        from ablations.backends.dask import Dask

        return Dask(options, runtime)
    from ablations.backends.loky import Loky

    return Loky(options, runtime)
