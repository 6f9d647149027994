"""python -m melssl audit: look for leaks in a cohort, alone or against an external one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from melssl.userpath import user_path, user_root

if TYPE_CHECKING:
    from melssl.data.cohort import Cohort

ROOT = Path(__file__).resolve().parents[2]
TEXT = "find samples that belong together: by patient, lesion, list, bytes and looks"
EXIT_CODES = (
    "exit code: 0 nothing crosses patients, official splits, cohorts or labels;"
    " 1 something does; 2 an error"
)


def add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "audit", help=TEXT, description=TEXT, epilog=EXIT_CODES, allow_abbrev=False
    )
    for side, meaning in (("", "cohort"), ("external-", "external cohort")):
        parser.add_argument(
            f"--{side}source",
            required=not side,
            default="",
            metavar="NAME",
            help=f"{meaning}: siim_isic, ham10000, csv_folder, ...",
        )
        root = f"--{side or 'data-'}root"
        parser.add_argument(root, default="", metavar="DIR", help=f"folder of the {meaning}")
        parser.add_argument(
            f"--{side}set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"an option of the {meaning}'s source, e.g. patient_column=group; repeatable",
        )
    parser.add_argument("--out", default="", help="folder of the report (outputs/audits/NAME)")
    parser.add_argument(
        "--images",
        choices=("full", "bytes", "off"),
        default="full",
        help="bytes and looks of the files; their bytes only; ids only (default: full)",
    )
    parser.add_argument(
        "--similarity", type=float, help="from which two images count as one, 0 to 1"
    )
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.set_defaults(run=run_audit)


def run_audit(args: argparse.Namespace) -> int:
    """Audit, write the report, and say what was found; 0 if nothing crosses, else 1.

    Raises:
        SpecError: an unknown source or option, or a bad value.
        CohortError: what the source refuses.

    """
    from melssl.audit.audit import AuditSpec, audit
    from melssl.audit.report import write_report
    from melssl.errors import SpecError

    workers = len(os.sched_getaffinity(0)) if args.workers is None else args.workers
    if workers < 1:
        raise SpecError(f"--workers {workers}: expected a whole number from 1")
    if not args.external_source and (args.external_root or args.external_set):
        raise SpecError("--external-root and --external-set need --external-source NAME")
    asked = {"images": args.images, "similarity": args.similarity}
    spec = AuditSpec.parse({name: value for name, value in asked.items() if value is not None})
    cohort = _cohort(args.source, args.data_root, args.set)
    external = None
    if args.external_source:
        external = _cohort(args.external_source, args.external_root, args.external_set)
    cache = _outputs() / "vault" / "audits"
    found = audit(cohort, spec, external, workers=workers, progress=True, cache=cache)
    folder = user_path(args.out).resolve() if args.out else _outputs() / "audits" / args.source
    external_root = external.root if external else None
    summary = write_report(found, folder, cohort.root, external_root, progress=True)
    seconds = found.numbers.seconds
    print(*found.lines(), f"report: {summary} (after {seconds:.0f} s)", sep="\n")
    return 1 if found.groups else 0


def _cohort(name: str, root: str, overrides: Sequence[str]) -> Cohort:
    from melssl.data.sources import SOURCES
    from melssl.settings import choose, with_overrides

    source = choose(SOURCES, {"source": name, **user_root(root)}, "source")
    return with_overrides(source, overrides).load(_outputs() / "vault" / "cohorts")


def _outputs() -> Path:
    return user_path(os.environ.get("MELSSL_OUT") or ROOT / "outputs").resolve()
