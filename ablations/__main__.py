"""python -m ablations plan | run | status | collect | pictures | ledger | vault: the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ablations.options import (
    add_run_options,
    add_study_options,
    exit_code,
    outputs,
    run_options,
    study_from,
)
from melssl.userpath import user_path

DEFAULT_FACTOR = "label_fraction"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    args = _parser().parse_args(arguments)
    return exit_code(lambda: _COMMANDS[args.command](args))


def _plan(args: argparse.Namespace) -> int:
    from ablations.commands import show_plan

    show_plan(study_from(args, DEFAULT_FACTOR), run_options(args), args.diff)
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
    from ablations.status import known_status
    from ablations.vault import Vault

    options = run_options(args)
    lines = known_status(args.study, Vault(options.vault))
    if lines is None:
        from ablations.commands import load_study, show_status

        show_status(load_study(args.study), options)
    else:
        print("\n".join(lines))
    return 0


def _collect(args: argparse.Namespace) -> int:
    from ablations.commands import collect_again, load_study

    result = collect_again(load_study(args.study), run_options(args))
    info = result.table.info
    print(f"{info.n_finished} of {info.n_planned} trials; table in {result.folder / 'table'}")
    return 0


def _pictures(args: argparse.Namespace) -> int:
    from ablations.commands import load_study
    from ablations.gallery import Gallery
    from ablations.pictures import make_pictures, refusals

    study = load_study(args.study)
    folder = make_pictures(study, run_options(args), args.most)
    for line in refusals(Gallery.load(folder)):
        print(line)
    print(f"{folder}\nfigures: python reports/make_figures.py --study {study.name}")
    return 0


def _ledger(args: argparse.Namespace) -> int:
    from ablations.commands import load_study, study_folder, sync_ledger
    from ablations.searching.sync import sync_search

    search = study_folder(args.study) / "search.json"
    if args.study and search.exists():
        written = sync_search(search, run_options(args), args.storage)
    else:
        written = sync_ledger(load_study(args.study), run_options(args))
    print(f"{written} trials written to MLflow; it holds all that the vault has")
    return 0


def _vault(args: argparse.Namespace) -> int:
    from ablations.keeping import command

    root = user_path(args.vault).resolve() if args.vault else outputs() / "vault"
    if args.action == "check":
        return 0 if command.check_vault(root, repair=args.repair) else 1
    if args.action == "gc":
        command.sweep_vault(root, yes=args.yes, dry_run=args.dry_run)
    elif args.action == "export":
        command.export_study(args.study, root, user_path(args.file))
    else:
        data_root = user_path(args.data_root) if args.data_root else None
        command.import_study(user_path(args.file), root, data_root, dict(args.unseen_root))
    return 0


def _export_encoder(args: argparse.Namespace) -> int:
    from ablations.commands import load_study
    from ablations.sharing.command import export_encoder

    fold = int(args.fold) if args.fold.isdecimal() else -1
    study, folder = load_study(args.study), user_path(args.folder)
    told = export_encoder(study, folder, run_options(args), args.arm, fold, onnx=args.onnx)
    print("\n".join(told))
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
        if name == "plan":
            command.add_argument(
                "--diff",
                nargs="?",
                const="",
                metavar="STUDY",
                help="also what differs from a study as it was run last (default: of this name)",
            )
    for name, text in (
        ("status", "how far a study is, and why what failed has failed"),
        ("collect", "write a study's table anew from the vault"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("study", nargs="?", default="", help="name; default: the latest")
        add_run_options(command)
    pictures = commands.add_parser(
        "pictures", help="show what encoders learnt, on patients' images", allow_abbrev=False
    )
    pictures.add_argument("--study", default="", help="name; default: the latest")
    pictures.add_argument("--most", type=int, default=6, help="arms to show, in order (default: 6)")
    add_run_options(pictures)
    ledger = commands.add_parser(
        "ledger", help="the MLflow mirror of the vault", allow_abbrev=False
    )
    ledger.add_argument("action", choices=["sync"], help="write what MLflow lacks; never doubles")
    ledger.add_argument("study", nargs="?", default="", help="or search; default: the latest study")
    ledger.add_argument("--storage", default="", help="address of a search's database")
    add_run_options(ledger)
    text = "an encoder with its model card, for timm, melssl and ONNX"
    share = commands.add_parser("export-encoder", help=text, description=text, allow_abbrev=False)
    share.add_argument("study", help="its name")
    share.add_argument("folder", help="where to write it")
    share.add_argument("--arm", default="", help="method=simclr, ... (default: the only one)")
    share.add_argument("--fold", default="0", help="whose encoder (default: 0)")
    share.add_argument("--onnx", action="store_true", help="model.onnx, too (the extra `onnx`)")
    add_run_options(share)
    _add_vault(commands.add_parser("vault", help="finished stages: checked, swept, moved"))
    return parser


def _add_vault(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="read all, compare digests", allow_abbrev=False)
    check.add_argument("--repair", action="store_true", help="set aside what is damaged")
    sweep = actions.add_parser("gc", help="remove what no study needs; asks", allow_abbrev=False)
    sweep.add_argument("--yes", action="store_true", help="do not ask")
    sweep.add_argument("--dry-run", action="store_true", help="show it only")
    out = actions.add_parser("export", help="write a study to a tar file", allow_abbrev=False)
    out.add_argument("study", help="its name")
    out.add_argument("file", help="the tar file to write")
    into = actions.add_parser("import", help="take a study from a tar file", allow_abbrev=False)
    into.add_argument("file", help="what `vault export` wrote")
    into.add_argument("--data-root", default="", help="where the cohort's files lie here")
    into.add_argument(
        "--unseen-root",
        action="append",
        default=[],
        type=_named_folder,
        metavar="NAME=FOLDER",
        help="where the files of a cohort lie that its trials were asked about",
    )
    for action in (check, sweep, out, into):
        action.add_argument("--vault", default="", help="folder of finished stages")


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, got {text!r}")
    return name, user_path(folder)


_COMMANDS = {
    "plan": _plan,
    "run": _run,
    "status": _status,
    "collect": _collect,
    "pictures": _pictures,
    "ledger": _ledger,
    "vault": _vault,
    "export-encoder": _export_encoder,
}

if __name__ == "__main__":
    sys.exit(main())
