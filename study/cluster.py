"""A Dask cluster on SLURM for studies: starts a scheduler here and workers as jobs, until Ctrl-C.

Its settings are dask-jobqueue's, in study/slurm.yaml. Examples:

    python study/cluster.py --jobs 20
    python study/cluster.py --config my.yaml --show
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ablations.options import ROOT, exit_code
from melssl.errors import SpecError
from melssl.userpath import user_path

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster

SETTINGS = ROOT / "study" / "slurm.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the cluster, say how to use it, and stay; return the exit code."""
    args = _parser().parse_args(arguments)
    return exit_code(lambda: _run(args))


def slurm_cluster(settings: Path) -> SLURMCluster:
    """Return a cluster without jobs, as a file of dask-jobqueue's settings describes it.

    Raises:
        SpecError: the file is missing or not of that form, or the extra is not installed.

    """
    if find_spec("dask_jobqueue") is None:
        raise SpecError(
            "expected the package dask-jobqueue, found none; install the extra:"
            " python -m pip install '.[cluster]'"
        )
    import dask
    from dask_jobqueue import SLURMCluster

    try:
        (found,) = dask.config.collect_yaml([str(settings)])
        given = found["jobqueue"]["slurm"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"{settings}: expected settings below jobqueue: slurm:, got {error!r}; start from"
            f" {SETTINGS}"
        ) from None
    known = dask.config.get("jobqueue.slurm")
    if unknown := sorted(given.keys() - known.keys()):
        raise SpecError(f"{settings}: {', '.join(unknown)} unknown; known: {', '.join(known)}")
    # for as long as the cluster is there: it reads them whenever it makes a job
    dask.config.set({"jobqueue.slurm": known | given})
    return SLURMCluster(
        python=sys.executable,
        # a worker imports the checkout
        job_script_prologue=[*(given.get("job-script-prologue") or ()), f"cd {ROOT}"],
        scheduler_options={"dashboard": False},
    )


def _run(args: argparse.Namespace) -> int:
    cluster = slurm_cluster(args.config)
    if args.show:
        print(cluster.job_script())
        cluster.close()
        return 0
    cluster.scale(jobs=args.jobs)
    print("in another terminal, with a vault that all nodes see:")
    where = f"--backend dask --scheduler {cluster.scheduler_address} --vault FOLDER"
    print(f"  python study/label_fraction.py {where}", flush=True)
    try:
        signal.pause()
    finally:
        cluster.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=4, help="workers, one to a job (default: 4)")
    parser.add_argument(
        "--config", type=user_path, default=SETTINGS, help="settings of dask-jobqueue"
    )
    parser.add_argument("--show", action="store_true", help="print the job script, submit nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
