"""Measure speed: pretraining steps, loading and views, decoding, harness, study, report.

Each figure stands beside what the obvious way reaches in the same run, in turns with it. Nothing
else should run on the machine meanwhile. Examples:

    python -m benchmarks
    python -m benchmarks --only decode
    python -m benchmarks --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from benchmarks.answer import Answer
    from benchmarks.machine import Machine
    from benchmarks.measure import Crew, Effort

QUESTIONS = ("steps", "decode", "harness", "study", "scale", "figures")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured on."""

    data_root: Path
    cores: int
    image_px: int = 48
    batch_size: int = 128
    n_images: int = 2048
    n_large: int = 96
    n_patients: int = 300
    n_trials: int = 100_000
    n_drawn: int = 1000
    n_levels: int = 5
    n_epochs: int = 90


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; the exit code is 0 whatever the figures are."""
    args = _parser().parse_args(arguments)
    from benchmarks.machine import this_machine
    from benchmarks.measure import Effort
    from benchmarks.seats import Seats

    machine = this_machine()
    if machine.warning:
        print(f"careful: {machine.warning}", file=sys.stderr)
    sizes = Sizes(data_root=args.data_root, cores=machine.cores)
    effort = Effort(repeats=args.repeats, seconds=args.seconds)
    if args.quick:
        sizes = replace(
            sizes,
            batch_size=16,
            n_images=64,
            n_large=4,
            n_patients=80,
            n_levels=1,
            n_epochs=1,
            n_trials=4200,
            n_drawn=200,
        )
        effort = Effort(repeats=1, seconds=0)
    answers = []
    with tempfile.TemporaryDirectory() as folder, Seats(machine.cores) as crew:
        for name in args.only or QUESTIONS:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            answers.append(ask(name, Path(folder), crew, effort, sizes))
    given = sys.argv[1:] if arguments is None else arguments
    _tell(machine, answers, shlex.join(["python", "-m", "benchmarks", *given]), args)
    return 0


def ask(name: str, folder: Path, crew: Crew, effort: Effort, sizes: Sizes) -> Answer:
    """Answer one question; ``folder`` is for files that are made on the way."""
    if name == "harness":
        from benchmarks import harness

        made = folder / name
        return harness.answer(made, crew, effort, n_patients=sizes.n_patients, cores=sizes.cores)
    if name == "scale":
        from benchmarks import scale

        return scale.answer(
            folder / name,
            n_trials=sizes.n_trials,
            n_collected=sizes.n_trials // 10,
            n_patients=sizes.n_patients,
        )
    if name == "figures":
        from benchmarks import figures

        return figures.answer(
            folder / name,
            n_trials=sizes.n_drawn,
            n_patients=sizes.n_patients,
            repeats=effort.repeats,
        )
    if name == "study":
        from benchmarks import whole_study

        study = whole_study.Size()
        few = slice(-sizes.n_levels, None)
        size = replace(
            study,
            ratios=study.ratios[few],
            fractions=study.fractions[few],
            epochs=sizes.n_epochs,
        )
        return whole_study.answer(folder / name, size)
    from benchmarks import decode, steps
    from benchmarks.material import large_images, small_images

    own = folder / name
    small = small_images(sizes.data_root, own, sizes.n_images, sizes.image_px)
    if name == "decode":
        large = large_images(own, sizes.n_large, sizes.image_px)
        return decode.answer([small, large], crew, effort, batch_size=sizes.batch_size)
    return steps.answer(small, crew, effort, batch_size=sizes.batch_size, cores=sizes.cores)


def _tell(
    machine: Machine, answers: Sequence[Answer], command: str, args: argparse.Namespace
) -> None:
    from benchmarks.report import as_json, as_markdown, write_between

    text = as_markdown(machine, answers, command)
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(as_json(machine, answers, command))
    (args.out / "results.md").write_text(text)
    if args.write is not None:
        write_between(args.write, text)


def _parser() -> argparse.ArgumentParser:
    from ablations.options import outputs

    data = Path(os.environ.get("MELSSL_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", action="append", choices=QUESTIONS, help="one question; may be repeated")
    add("--quick", action="store_true", help="does everything run? the figures mean nothing")
    add("--repeats", type=int, default=5, help="laps of every way (default: 5)")
    add("--seconds", type=float, default=3.0, help="about how long a lap is (default: 3)")
    add("--data-root", type=Path, default=data, help="folder that holds ham10000/, if any")
    add("--out", type=Path, default=outputs() / "benchmarks", help="folder of the results")
    add("--write", type=Path, metavar="PAGE", help="also put the tables into this Markdown page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
