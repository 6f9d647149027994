r"""Writes a competition's submission.csv for every arm: without pretraining, and with it.

Trains both arms on all folds, or takes them from the vault. Each model scores the test images in
eight views (flips and quarter turns), views and folds are averaged, and the file is checked against
the competition's sample. Images that are missing are listed. Stop it at any time; the same command
goes on. Examples:

    python study/submission.py --source siim_isic --data-root ~/siim --method simclr
    python study/submission.py --study label_fraction-ham10000 \
        --test-source siim_isic --test-root ~/siim --missing fill
    python study/submission.py ... --upload siim-isic-melanoma-classification
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ablations.options import (
    add_run_options,
    add_study_options,
    exit_code,
    outputs,
    run_options,
    study_from,
)
from ablations.unseen.options import add_unseen_options, unseen_from
from melssl.userpath import user_path

if TYPE_CHECKING:
    from ablations.design import Study
    from ablations.unseen.together import Submitted
    from melssl.unseen import Unseen
    from study.competition import Form

FACTOR = "label_fraction"
AVERAGES = ("probability", "rank")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the submissions and return the exit code."""
    args = _parser().parse_args(arguments)
    return exit_code(lambda: _run(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    group = parser.add_argument_group("submission")
    group.add_argument("--study", default="", help="take the arms of a study that was started here")
    group.add_argument(
        "--average", default="probability", choices=AVERAGES, help="over folds (probability)"
    )
    group.add_argument(
        "--missing",
        default="refuse",
        choices=("refuse", "fill"),
        help="ids without an image: refuse them, or fill in the median score (refuse)",
    )
    group.add_argument("--sample", default="", help="the competition's sample_submission.csv")
    group.add_argument("--out", default="", help="folder (default: in the study's own)")
    group.add_argument("--upload", default="", metavar="COMPETITION", help="send it, too")
    group.add_argument("--arm", default="", help="upload this arm's file only, by its folder")
    add_unseen_options(parser, turns="all")
    add_study_options(parser, factor=False)
    add_run_options(parser)
    return parser


def _run(args: argparse.Namespace) -> int:
    from ablations.commands import load_study, run_study
    from ablations.unseen.together import submitted
    from study.upload import client

    if args.upload:
        client()
    options = run_options(args)
    study = load_study(args.study) if args.study else _new_study(args)
    unseen = unseen_from(args, _tested(study, args), "keep")
    folder = user_path(args.out) if args.out else outputs() / "studies" / study.name / "submissions"
    folder = folder / unseen.name
    form = _form(args, unseen, folder)
    if not args.study:
        run_study(study, options)
    found = submitted(study, unseen, options, args.average)
    files = [_write(one, form, folder) for one in found]
    if args.upload:
        _upload(args, files, study.name)
    return 0


def _new_study(args: argparse.Namespace) -> Study:
    """Return the two arms at all labels, without what sees metadata alone."""
    args.fractions = args.fractions or "100%"
    args.baselines = args.baselines or "none"
    study = study_from(args, FACTOR)
    return study if args.name else study.replace(name=f"submission-{study.baseline.cohort.source}")


def _tested(study: Study, args: argparse.Namespace) -> dict[str, object]:
    """Return the test side of the study's own cohort, where no other is named."""
    from melssl.errors import SpecError

    source = args.test_source or study.baseline.cohort.source
    if source != "siim_isic":
        if not args.test_source:
            raise SpecError(
                f"{source} has no test images of a competition; name them: --test-source siim_isic"
                " --test-root FOLDER, or --test-source csv_folder with --test-set"
            )
        return {"source": source}
    own = study.baseline.cohort.root if source == study.baseline.cohort.source else None
    only = {"source": source, "test_images": "only", "missing_files": "leave_out"}
    return only | ({"root": own} if own else {})


def _form(args: argparse.Namespace, unseen: Unseen, folder: Path) -> Form:
    """Return the competition's form; say and list which of its images are not there.

    Raises:
        CohortError: images are missing, and are not to be filled in.

    """
    import pandas as pd

    from melssl.errors import CohortError
    from study.competition import SAMPLE, Form

    root = unseen.cohort.root or Path()
    form = Form.load(user_path(args.sample) if args.sample else root / SAMPLE)
    cohort = unseen.cohort.load(outputs() / "vault" / "cohorts")
    missing = form.missing(list(cohort.frame["sample_id"]))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "missing_images.csv"
    pd.DataFrame({form.id_column: missing}).to_csv(path, index=False, lineterminator="\n")
    if missing:
        told = f"{len(missing)} of {len(form.ids)} images are missing, listed in {path}"
        if args.missing == "refuse":
            raise CohortError(f"{told}; get them, or go on with --missing fill")
        print(f"{told}; their score will be the median of the others")
    if missing and args.upload:
        raise CohortError(f"{told}: such a submission is not uploaded; get the images first")
    return form


def _write(one: Submitted, form: Form, folder: Path) -> Path:
    path = folder / one.name / "submission.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    form.filled(one.scores).to_csv(path, index=False, lineterminator="\n")
    form.check(path)
    n_filled = len(form.missing(list(one.scores)))
    filled = f", {n_filled} filled in" if n_filled else ""
    print(f"{path}: {len(form.ids)} rows{filled}, {one.told}; as the sample asks")
    return path


def _upload(args: argparse.Namespace, files: Sequence[Path], study: str) -> None:
    from melssl.errors import SpecError, nearest
    from study.upload import upload

    by_arm = {path.parent.name: path for path in files}
    if args.arm and args.arm not in by_arm:
        raise SpecError(f"--arm {args.arm!r} is unknown; {nearest(args.arm, by_arm)}")
    for name, path in by_arm.items():
        if args.arm in ("", name):
            print(f"{name}: {upload(path, args.upload, f'melssl {study} {name}')}")


if __name__ == "__main__":
    sys.exit(main())
