"""Where tasks are done: in local processes, or by the workers of a dask scheduler.

Neither is a scheduler of ours: a process is one `ProcessPoolExecutor`, and lost workers, queues and places
are dask's own. Whoever submits tasks keeps their number near `places`, and takes what ended one by one.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, Protocol
from uuid import uuid4

from hotpix_registry import __version__
from hotpix_registry.errors import HotpixError, SchedulerUnreachable, UnfitWorkers, UsageError, WorkerLost

log = logging.getLogger(__name__)

Task = Callable[[Any], Any]

_DEATHS = 3
"""of the worker at the same task, before the task is given up"""
_AHEAD = 2
"""tasks for each place: while the coordinator stores one result, the next task runs"""
_CONNECT_S = 10
_LOOK_S = 5.0
"""how often it is asked how many workers there are"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that ended: with what it returned, or with an error."""

    key: str
    value: Any = None
    error: BaseException | None = None


class Work(Protocol):
    """Something that does tasks."""

    far: bool
    """whether tasks may run on other machines"""

    def places(self) -> int:
        """How many tasks it should have now, running or waiting; at least one."""
        ...

    def submit(self, key: str, task: Task, argument: Any) -> None: ...

    def next(self, timeout_s: float) -> Ended | None:
        """The next task that ended, in whatever order; None: none did in this time."""
        ...


def work(*, jobs: int | None = None, scheduler: str | None = None) -> AbstractContextManager[Work]:
    """Local processes, as many as there are processors if nothing is said, or a dask scheduler's workers."""
    return local_processes(jobs or os.cpu_count() or 1) if scheduler is None else dask_workers(scheduler)


def in_order(work: Work, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
    """What a task returns for each argument, in their order; about as many are in work as there are places.

    Whatever a task raised is raised here.
    """
    run, numbered = uuid4().hex, enumerate(arguments)
    waiting: deque[str] = deque()
    ended: dict[str, Ended] = {}
    more = True
    while more or waiting:
        while more and len(waiting) < work.places():
            one = next(numbered, None)
            more = one is not None
            if one is not None:
                waiting.append(f"{run}-{one[0]}")
                work.submit(waiting[-1], task, one[1])
        if waiting and waiting[0] in ended:
            first = ended.pop(waiting.popleft())
            if first.error is not None:
                raise first.error
            yield first.value
        elif waiting and (found := work.next(_LOOK_S)) is not None:
            ended[found.key] = found


# --- processes of this machine ----------------------------------------------------------


@contextmanager
def local_processes(number: int) -> Iterator[Work]:
    """So many processes; they end with the block, and with this process however it ends."""
    processes = _Processes(number)
    try:
        yield processes
    finally:
        processes.close()


@dataclass(slots=True)
class _Waiting:
    key: str
    task: Task
    argument: Any
    deaths: int = 0


class _Desk:
    """One process with its tasks in their order, so that it is known at which of them it died."""

    def __init__(self, ended: queue.SimpleQueue[tuple[_Desk, ProcessPoolExecutor, str, Future[Any]]]) -> None:
        self._ended = ended
        self.waiting: deque[_Waiting] = deque()
        self.process = _new_process()

    def begin(self, one: _Waiting) -> None:
        self.waiting.append(one)
        try:
            future = self.process.submit(one.task, one.argument)
        except BrokenProcessPool:  # it was killed while it had nothing to do
            self.restart()
            return
        process = self.process
        future.add_done_callback(lambda future: self._ended.put((self, process, one.key, future)))

    def restart(self) -> None:
        self.process.shutdown(wait=False)
        self.process = _new_process()
        waiting, self.waiting = self.waiting, deque()
        for one in waiting:
            self.begin(one)


def _new_process() -> ProcessPoolExecutor:
    from multiprocessing import get_context

    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_settle_in)


def _settle_in() -> None:
    """What a worker does first: leave Ctrl-C to the coordinator, and end when that one is gone."""
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.join,), daemon=True).start()


def _end_after(wait: Callable[[], None]) -> None:
    wait()
    os._exit(1)


class _Processes:
    far = False

    def __init__(self, number: int) -> None:
        self._ended: queue.SimpleQueue[tuple[_Desk, ProcessPoolExecutor, str, Future[Any]]] = (
            queue.SimpleQueue()
        )
        self._desks = [_Desk(self._ended) for _ in range(number)]

    def places(self) -> int:
        return _AHEAD * len(self._desks)

    def submit(self, key: str, task: Task, argument: Any) -> None:
        desk = min(self._desks, key=lambda desk: len(desk.waiting))
        desk.begin(_Waiting(key, task, argument))

    def next(self, timeout_s: float) -> Ended | None:
        try:
            desk, process, key, future = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return None
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            return self._died(desk) if process is desk.process else None
        one = next((one for one in desk.waiting if one.key == key), None)
        if one is None:
            return None
        desk.waiting.remove(one)
        return Ended(key, error=error) if error is not None else Ended(key, future.result())

    def _died(self, desk: _Desk) -> Ended | None:
        culprit = desk.waiting[0]
        culprit.deaths += 1
        if culprit.deaths >= _DEATHS:
            desk.waiting.popleft()
        desk.restart()
        return Ended(culprit.key, error=_lost(_DEATHS)) if culprit.deaths >= _DEATHS else None

    def close(self) -> None:
        for desk in self._desks:
            desk.process.shutdown(wait=False, cancel_futures=True)
        for desk in self._desks:
            desk.process.shutdown(wait=True)


def _lost(times: int) -> WorkerLost:
    return WorkerLost(
        f"It ended the process of its worker {times} times, most likely for want of memory.",
        next_step="Give it more memory, or let fewer run at once.",
    )


# --- dask --------------------------------------------------------------------------------


@contextmanager
def dask_workers(address: str) -> Iterator[Work]:
    """The workers of a dask scheduler; what was submitted and has not begun is taken back at the end.

    Raises
    ------
    UsageError
        `distributed` is not installed, or the address is none.
    SchedulerUnreachable, UnfitWorkers
    """
    if re.fullmatch(r"(tcp|tls)://[^/\s]+:\d{1,5}", address) is None:
        raise UsageError(
            f"'{address}' is no address of a scheduler.",
            next_step="Write tcp://HOST:8786, or tls://HOST:8786.",
        )
    try:
        distributed = import_module("distributed")
    except ImportError:
        raise UsageError(
            "--scheduler needs the package distributed, which is not installed.",
            next_step="Run `pip install 'hotpix-registry[dask]'`.",
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it says, the sentences here say
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions, which are compared below
            client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SchedulerUnreachable(
            f"No dask scheduler answers at {address}: {_line(error)}.",
            next_step="Check the address (tcp://HOST:8786), and that `dask scheduler` runs there.",
        ) from None
    try:
        _check_versions(client)
        yield _Dask(client, address)
    finally:
        with suppress(OSError, TimeoutError):
            client.close(timeout=_CONNECT_S)


def about_this_process() -> dict[str, str]:
    """What must agree between coordinator and workers."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"hotpix-registry": __version__, "python": python, "distributed": version("distributed")}


def _check_versions(client: Any) -> None:
    """Compare versions before tasks are sent, which name modules and classes.

    Raises
    ------
    UnfitWorkers
    """
    try:
        found = {"The scheduler": client.run_on_scheduler(about_this_process)}
    except Exception as error:  # whatever its machine lacks
        found = {"The scheduler": error}
    told = client.run(about_this_process, on_error="return")
    found |= {f"Worker {worker}": theirs for worker, theirs in told.items()}
    ours = about_this_process()
    for who, theirs in found.items():
        if isinstance(theirs, Exception):
            raise UnfitWorkers(
                f"{who} cannot be used: {_line(theirs)}.",
                next_step=f"Install hotpix-registry {__version__} with its extra dask there.",
            )
        if theirs != ours:
            names = [name for name in ours if theirs[name] != ours[name]]
            has = ", ".join(f"{name} {theirs[name]}" for name in names)
            wanted = ", ".join(f"{name} {ours[name]}" for name in names)
            raise UnfitWorkers(
                f"{who} has {has}; here is {wanted}.", next_step="Install the same versions there."
            )
    if not told:
        log.warning("No worker has joined the scheduler yet; work begins when one does (`dask worker`).")


def _line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")


class _Dask:
    far = True

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._ended: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._futures: dict[str, Any] = {}
        self._places, self._looked = 1, -_LOOK_S

    def places(self) -> int:
        if time.monotonic() - self._looked > _LOOK_S:
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            self._places = max(1, _AHEAD * sum(worker["nthreads"] for worker in workers))
            self._looked = time.monotonic()
        return self._places

    def submit(self, key: str, task: Task, argument: Any) -> None:
        # two coordinators of one scheduler share the task of a key
        future = self._client.submit(
            task, argument, key=f"{task.__name__}-{key}", pure=False, retries=_DEATHS
        )
        self._futures[key] = future
        future.add_done_callback(lambda future: self._ended.put((key, future)))

    def next(self, timeout_s: float) -> Ended | None:
        try:
            key, future = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            self._check_scheduler()
            return None
        if key not in self._futures or self._futures[key] is not future:
            return None
        if future.status == "cancelled":
            raise self._gone()
        del self._futures[key]
        try:
            if future.status == "finished":
                return Ended(key, self._client.gather(future))
            error = future.exception()
        except Exception as lost:
            self._check_scheduler()
            error = lost
        finally:
            future.release()
        killed = type(error).__name__ == "KilledWorker"
        return Ended(key, error=_lost(_DEATHS + 1) if killed else error)

    def _check_scheduler(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> HotpixError:
        return SchedulerUnreachable(
            f"The dask scheduler at {self._address} is gone.",
            next_step="Start it again, and run the same command: it goes on where it stopped.",
        )
