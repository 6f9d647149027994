"""Waiting that has an end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablations.bounded import locked, within


def test_a_result_and_an_error_come_through() -> None:
    assert within(5.0, lambda: 7) == 7
    with pytest.raises(ValueError, match="why"):
        within(5.0, lambda: int("why"))


def test_a_call_that_takes_longer_is_left_behind() -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        within(0.1, lambda: time.sleep(1.0))
    assert time.monotonic() - begin < 0.8


def test_a_lock_keeps_others_out_until_it_is_released_or_its_holder_is_killed(
    tmp_path: Path,
) -> None:
    lock = tmp_path / "lock"
    code = (
        "import sys, time, pathlib, ablations.bounded as b\n"
        "with b.locked(pathlib.Path(sys.argv[1]), 1.0): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TimeoutError, match="another process"), locked(lock, 0.1):
            pass
        holder.kill()
    with locked(lock, 1.0):
        assert lock.exists()
    with locked(lock, 0.1):
        assert lock.exists()
