"""python -m ablations plan | run | status | collect | ledger: the harness on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ablations.options import (
    add_run_options,
    add_study_options,
    exit_code,
    run_options,
    study_from,
)

DEFAULT_FACTOR = "label_fraction"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    args = _parser().parse_args(arguments)
    return exit_code(lambda: _COMMANDS[args.command](args))


def _plan(args: argparse.Namespace) -> int:
    from ablations.commands import show_plan

    show_plan(study_from(args, DEFAULT_FACTOR), run_options(args))
    return 0


def _run(args: argparse.Namespace) -> int:
    from ablations.commands import run_study
    from ablations.ledger import ui_command

    result = run_study(study_from(args, DEFAULT_FACTOR), run_options(args))
    info = result.table.info
    print(f"{info.n_finished} of {info.n_planned} trials; table in {result.folder / 'table'}")
    print(f"figures: python reports/make_figures.py --study {info.name}")
    print(f"runs:    {ui_command(result.tracking_uri)}")
    return 0 if info.n_finished == info.n_planned else 1


def _status(args: argparse.Namespace) -> int:
    from ablations.commands import load_study, show_status

    show_status(load_study(args.study), run_options(args))
    return 0


def _collect(args: argparse.Namespace) -> int:
    from ablations.commands import collect_again, load_study

    result = collect_again(load_study(args.study), run_options(args))
    info = result.table.info
    print(f"{info.n_finished} of {info.n_planned} trials; table in {result.folder / 'table'}")
    return 0


def _ledger(args: argparse.Namespace) -> int:
    from ablations.commands import load_study, sync_ledger

    written = sync_ledger(load_study(args.study), run_options(args))
    print(f"{written} trials written to MLflow; it holds all that the vault has")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ablations", description=__doc__, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("plan", "trials, shared stages, what is done, and what the rest costs; runs nothing"),
        ("run", "run what is missing, collect, mirror to MLflow; goes on where it was stopped"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_study_options(command, factor=True)
        add_run_options(command)
    for name, text in (
        ("status", "how far a study is, and why what failed has failed"),
        ("collect", "write a study's table anew from the vault"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("study", nargs="?", default="", help="name; default: the latest")
        add_run_options(command)
    ledger = commands.add_parser(
        "ledger", help="the MLflow mirror of the vault", allow_abbrev=False
    )
    ledger.add_argument("action", choices=["sync"], help="write what MLflow lacks; never doubles")
    ledger.add_argument("study", nargs="?", default="", help="name; default: the latest")
    add_run_options(ledger)
    return parser


_COMMANDS = {
    "plan": _plan,
    "run": _run,
    "status": _status,
    "collect": _collect,
    "ledger": _ledger,
}

if __name__ == "__main__":
    sys.exit(main())
