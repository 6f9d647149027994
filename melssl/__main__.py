"""python -m melssl audit: the core on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from melssl.audit.command import add_audit
from melssl.errors import MelsslError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its own code, 2 after an error for the user, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m melssl", description=__doc__, allow_abbrev=False
    )
    add_audit(parser.add_subparsers(dest="command", required=True))
    args = parser.parse_args(arguments)
    try:
        code: int = args.run(args)
    except MelsslError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
