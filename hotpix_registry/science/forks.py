"""Work shared with forks of this process: what they need they know, so that nothing but results is sent.

Threads hardly help where each call into NumPy takes some microseconds: they wait for Python's own lock.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_TICKET_BYTES = 2
_MOST_ITEMS = 1 << 14
"""so many tickets find room in a pipe before anybody takes one"""


def can_fork() -> bool:
    """Whether forks are safe here: macOS's own libraries do not survive one, and Windows knows none."""
    return sys.platform == "linux"


def in_order(function: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    """Results in the order of the items, each found by whichever process is free: this one, or its forks.

    A fork that is lost, or meets an error, leaves its items to this process, which then meets the error
    itself.

    Parameters
    ----------
    function : callable
        It gives the same in a fork as here, and takes no lock that another thread may hold now.
    processes : int
        This one counts; where there can be no forks it does all the work.
    """
    if min(processes, len(items)) < 2 or len(items) > _MOST_ITEMS or not can_fork():
        yield from map(function, items)
        return
    tickets, giver = os.pipe()
    os.write(giver, b"".join(number.to_bytes(_TICKET_BYTES, "little") for number in range(len(items))))
    os.close(giver)
    forks: list[_Fork[Result]] = []
    found: dict[int, Result] = {}
    try:
        for _ in range(min(processes, len(items)) - 1):
            with contextlib.suppress(OSError):  # of a system that allows no more of them
                forks.append(_Fork(function, items, tickets, found))
        for number, item in enumerate(items):
            while number not in found and (ticket := _take(tickets)) is not None:
                found[ticket] = function(items[ticket])
            if number not in found:
                for fork in forks:
                    fork.join()
            yield found.pop(number) if number in found else function(item)
    finally:
        os.close(tickets)
        for fork in forks:
            fork.end()


def _take(tickets: int) -> int | None:
    """The number of an item that nobody has begun; None when there is none left."""
    ticket = os.read(tickets, _TICKET_BYTES)
    return int.from_bytes(ticket, "little") if ticket else None


class _Fork(Generic[Result]):
    """A fork that works, and a thread that takes its results in."""

    def __init__(
        self,
        function: Callable[[Any], Result],
        items: Sequence[Any],
        tickets: int,
        found: dict[int, Result],
    ) -> None:
        receiver, sender = os.pipe()
        with warnings.catch_warnings():
            # other threads' locks are none of its business: it reads files, computes and sends
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                self._pid = os.fork()
            except OSError:
                os.close(receiver)
                os.close(sender)
                raise
        if self._pid == 0:
            _serve(function, items, tickets, sender)
        os.close(sender)
        self._results = Connection(receiver, writable=False)
        self._found = found
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                number, result = self._results.recv()
                self._found[number] = result

    def join(self) -> None:
        """Wait until it has sent all that it will."""
        self._thread.join()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._thread.join()
        self._results.close()


def _serve(
    function: Callable[[Any], Any], items: Sequence[Any], tickets: int, sender: int
) -> None:  # pragma: no cover - in a process that is not followed
    """Work until nothing is left, and end: nothing of what the process was before may run in its fork."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who began it ends it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with Connection(sender, readable=False) as results:
            while (number := _take(tickets)) is not None:
                results.send((number, function(items[number])))
    finally:
        os._exit(0)
