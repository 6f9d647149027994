"""Progress of a running plan: a bar of estimated work, fed by what stages and workers report."""

from __future__ import annotations

import json
import sys
import threading
from types import TracebackType

from tqdm import tqdm

from ablations.vault import Vault
from ablations.workers import PROGRESS, Outcome

POLL_SECONDS = 1.0
LOG_POLL_SECONDS = 60.0  # where nobody watches a terminal


class ProgressBar:
    """A bar over the estimated seconds of all missing stages; stages count as they move."""

    def __init__(self, vault: Vault, seconds: dict[str, float]) -> None:
        self._vault = vault
        self._seconds = seconds
        self._total = max(sum(seconds.values()), 1e-9)
        self._ended: set[str] = set()
        self._failed = 0
        self._poll_seconds = POLL_SECONDS if sys.stderr.isatty() else LOG_POLL_SECONDS
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._bar = tqdm(
            total=self._total,
            bar_format="{percentage:3.0f}% |{bar:24}| {elapsed}, {remaining} left{postfix}",
            dynamic_ncols=True,
        )

    def __enter__(self) -> ProgressBar:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self._show()
        self._bar.close()

    def ended(self, outcome: Outcome) -> None:
        """Count a stage that has ended."""
        self._ended.add(outcome.key)
        if outcome.reason is not None:
            self._failed += 1
            self._bar.write(f"failed: {outcome.kind} {outcome.key}: {_first_line(outcome.reason)}")

    def _poll(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            self._show()

    def _show(self) -> None:
        done, told = 0.0, ""
        for key, seconds in self._seconds.items():
            if key in self._ended:
                done += seconds
        for key, share, text in self._moving():
            if key in self._seconds and key not in self._ended:
                done += share * self._seconds[key]
                told = text
        failed = f", {self._failed} failed" if self._failed else ""
        count = f"{len(self._ended & self._seconds.keys())}/{len(self._seconds)} stages{failed}"
        self._bar.n = min(done, self._total)
        self._bar.set_postfix_str(f"{count}{told}")

    def _moving(self) -> list[tuple[str, float, str]]:
        moving = []
        for path in (self._vault.root / "work").glob(f"*/{PROGRESS}"):
            try:
                data = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            kind, _, key = path.parent.name.partition("-")
            share = data["step"] / data["total"]
            moving.append((key, share, f", {kind} {share:.0%} loss {data['loss']:.3f}"))
        return moving


def _first_line(text: str) -> str:
    return text.splitlines()[0][:160] if text else ""
