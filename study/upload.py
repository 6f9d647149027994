"""Uploads a submission through Kaggle's own client, which alone knows the user's credentials."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from melssl.errors import ArtifactError, SpecError

CLIENT = "kaggle"
SECONDS = 600
LINES = 3
REFUSED = "could not submit"  # what the client says with an exit code of 0


def client() -> str:
    """Return the client's program.

    Raises:
        SpecError: it is not installed.

    """
    program = shutil.which(CLIENT)
    if program is None:
        raise SpecError(
            f"--upload: expected Kaggle's client on the PATH, found none; install it (the extra"
            f" {CLIENT!r} of this project), or upload the file by hand"
        )
    return program


def upload(file: Path, competition: str, message: str) -> str:
    """Send a submission and return what the client said.

    Raises:
        SpecError: there is no client.
        ArtifactError: the client did not get it through, with its own words.

    """
    command = (client(), "competitions", "submit", competition, "-f", str(file), "-m", message)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ArtifactError(_advice(file, f"no answer within {SECONDS} s")) from None
    lines = [line.strip() for line in f"{done.stderr}\n{done.stdout}".splitlines() if line.strip()]
    said = " ".join(lines[-LINES:])[-500:]  # a traceback ends with what went wrong
    if done.returncode != 0 or REFUSED in said.lower():
        raise ArtifactError(_advice(file, said or f"nothing, with exit code {done.returncode}"))
    return said


def _advice(file: Path, said: str) -> str:
    return (
        f"{file} was not uploaded; the client said: {said}\nWith a network, an access token of your"
        " account where the client looks for it, and the competition's rules accepted, run the"
        " same command again: nothing is computed twice. Or upload the file by hand."
    )
