"""Mirror: a ledger that is told what ended while nothing waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Thread

from ablations.ledger import Ledger, ParentRun

Action = Callable[[ParentRun | None], object]


class Mirror:
    """What a study tells its ledger, in order, from a thread of its own.

    A slow server keeps the thread, and not the process that hands out stages. Where stages run in
    this very process (``beside`` is False) each is told at once: there is nobody to keep busy.
    ``open`` begins the run there; what takes seconds, so it is best called when all are busy.
    """

    def __init__(
        self, ledger: Ledger, params: Mapping[str, str], tags: Mapping[str, str], *, beside: bool
    ) -> None:
        self._ledger, self._params, self._tags = ledger, params, tags
        self._parent: ParentRun | None = None
        self._queue = SimpleQueue[Action | None]()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="mirror", daemon=True) if beside else None
        self._is_open = False
        if not beside:
            self.open()

    def open(self) -> None:
        """Begin the run, if it has not begun."""
        if self._is_open:
            return
        self._is_open = True
        self._ledger.prepare()
        if self._thread is None:
            self._start()
        else:
            self._thread.start()

    def tell(self, action: Action) -> None:
        """Run ``action`` with the parent run after all that was told before."""
        self.open()
        if self._thread is None:
            action(self._parent)
        else:
            self._queue.put(action)

    def close(self) -> None:
        """Wait until all is told, which the ledger bounds, and raise what was raised."""
        if self._thread is None or not self._is_open:
            return
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        self._parent = self._ledger.parent(self._params, self._tags)

    def _work(self) -> None:
        try:
            self._start()
            while (action := self._queue.get()) is not None:
                action(self._parent)
        except BaseException as error:
            self._error = error
