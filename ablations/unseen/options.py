"""Options that name a cohort which trials score and learn nothing from. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from melssl.userpath import user_root

if TYPE_CHECKING:
    from melssl.unseen import Unseen

TURNS = ("none", "flips", "all")


def add_unseen_options(parser: argparse.ArgumentParser, *, turns: str) -> None:
    """Declare which cohort is scored, and in how many views."""
    group = parser.add_argument_group("the cohort that is scored, and never learned from")
    group.add_argument("--test-source", default="", help="its source: siim_isic, csv_folder, ...")
    group.add_argument("--test-root", default="", help="folder of its files")
    group.add_argument(
        "--test-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting of its source, e.g. label_column=melanoma; may be repeated",
    )
    group.add_argument("--test-name", default="", help="its name in files and figures")
    group.add_argument(
        "--turns",
        default=turns,
        choices=TURNS,
        help=f"views that are averaged: 1, 4 flips, or all 8 (default: {turns})",
    )


def unseen_from(
    args: argparse.Namespace, given: Mapping[str, object], linked: Literal["leave_out", "keep"]
) -> Unseen:
    """Build the cohort that the options describe; ``given`` stands where they name no source.

    Raises:
        SpecError: an unknown name or a bad value.

    """
    from melssl.settings import with_overrides
    from melssl.unseen import Unseen

    same = args.test_source in ("", given["source"])
    named = dict(given) if same else {"source": args.test_source}
    unseen = Unseen.parse(
        {
            "name": args.test_name or Path(args.test_root).name or str(named["source"]),
            "cohort": named | user_root(args.test_root),
            "turns": args.turns,
            "linked": linked,
        }
    )
    return with_overrides(unseen, [f"cohort.{text}" for text in args.test_set])
