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
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Protocol
from uuid import uuid4

from hotpix_registry import __version__
from hotpix_registry.domain import ALGORITHM_VERSION
from hotpix_registry.errors import HotpixError, SchedulerUnreachable, UnfitWorkers, UsageError, WorkerLost

log = logging.getLogger(__name__)

Task = Callable[[Any], Any]

_DEATHS = 3
"""of a local process at the same task, before the task is given up; dask counts for itself"""
_RETRIES = 2
"""of a task that raised on a worker, whose disk or memory may have been to blame"""
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


def processors() -> int:
    """How many of the machine's processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def work(*, jobs: int | None = None, scheduler: str | None = None) -> AbstractContextManager[Work]:
    """Local processes, as many as there are processors if nothing is said, or a dask scheduler's workers.

    Raises
    ------
    UsageError
        Both are asked for.
    """
    if jobs is not None and scheduler is not None:
        raise UsageError("--jobs and --scheduler exclude each other.", next_step="Give one of the two.")
    return local_processes(jobs or processors()) if scheduler is None else dask_workers(scheduler)


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

    def __init__(
        self,
        ended: queue.SimpleQueue[tuple[_Desk, ProcessPoolExecutor, str, Future[Any]]],
        hire: Callable[[], ProcessPoolExecutor],
    ) -> None:
        self._ended, self._hire = ended, hire
        self.waiting: deque[_Waiting] = deque()
        self.process = hire()

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
        self.process = self._hire()
        waiting, self.waiting = self.waiting, deque()
        for one in waiting:
            self.begin(one)


def _settle_in(line: Connection) -> None:
    """What a worker does first: leave Ctrl-C to the coordinator, and end when the line to that breaks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()


def _end_with(line: Connection) -> None:
    with suppress(EOFError, OSError):
        line.recv_bytes()  # nothing is ever sent
    os._exit(1)


class _Processes:
    far = False

    def __init__(self, number: int) -> None:
        self._ended: queue.SimpleQueue[tuple[_Desk, ProcessPoolExecutor, str, Future[Any]]] = (
            queue.SimpleQueue()
        )
        # closed by us, or by the system when this process is no more
        context = get_context("spawn")
        line, self._line = context.Pipe(duplex=False)
        hire = partial(ProcessPoolExecutor, 1, mp_context=context, initializer=_settle_in, initargs=(line,))
        self._desks = [_Desk(self._ended, hire) for _ in range(number)]

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
        return Ended(culprit.key, error=_lost()) if culprit.deaths >= _DEATHS else None

    def close(self) -> None:
        self._line.close()
        for desk in self._desks:
            desk.process.shutdown(wait=True, cancel_futures=True)
        self._desks.clear()


def _lost() -> WorkerLost:
    return WorkerLost(
        "It ended the process of its worker time and again, most likely for want of memory.",
        next_step="Give it more memory, or let fewer run at once.",
    )


# --- dask --------------------------------------------------------------------------------


@contextmanager
def dask_workers(address: str) -> Iterator[Work]:
    """The workers of a dask scheduler; what was submitted and has not begun is taken back at the end.

    Raises
    ------
    UsageError
        `distributed` is not installed, the address is none, or dask's configuration does not fit it.
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
    _check_encryption(address)
    for name in ("distributed", "distributed.client"):  # what they say, the sentences here say
        logging.getLogger(name).setLevel(logging.CRITICAL)
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


def _check_encryption(address: str) -> None:
    """Compare an address with dask's configuration, which dask itself does late, and as if it were a bug.

    Raises
    ------
    UsageError
    """
    if import_module("dask").config.get("distributed.client.security-loader", None):
        return  # certificates come from the user's own code
    try:
        security = import_module("distributed").Security()
        client = security.get_connection_args("client")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"What dask's configuration says of TLS cannot be used: {_line(error)}.",
            next_step="Check distributed.comm.tls there, and the files that it names.",
        ) from None
    if address.startswith("tls:") and client["ssl_context"] is None:
        raise UsageError(
            f"{address} is encrypted, and dask's configuration names no certificates.",
            next_step="Set ca-file, client.cert and client.key under distributed.comm.tls there.",
        )
    if address.startswith("tcp:") and client["require_encryption"]:
        raise UsageError(
            f"{address} is not encrypted, and dask's configuration requires it (require-encryption).",
            next_step="Write tls:// if the scheduler speaks it.",
        )


def about_this_process() -> dict[str, str]:
    """What must agree between coordinator and workers: how tasks are sent, and what masks they make."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "hotpix-registry": __version__,
        "algorithm": ALGORITHM_VERSION,
        "python": python,
        "distributed": version("distributed"),
    }


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
            raise _unfit(who, theirs, ours)
    if not told:
        log.warning("No worker has joined the scheduler yet; work begins when one does (`dask worker`).")


def _unfit(who: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> UnfitWorkers:
    names = [name for name in ours if theirs.get(name) != ours[name]]
    has = ", ".join(f"{name} {theirs.get(name, 'unknown')}" for name in names)
    wanted = ", ".join(f"{name} {ours[name]}" for name in names)
    return UnfitWorkers(
        f"{who} has {has}; the command has {wanted}.", next_step="Install the same versions there."
    )


@dataclass(frozen=True, slots=True)
class _Order:
    task: Task
    argument: Any
    versions: dict[str, str]
    """of who asks"""


def do(order: _Order) -> Any:
    """Do a task on a worker, which may have joined after all others were looked at.

    Raises
    ------
    UnfitWorkers
        It has other versions than who asks; whatever the task raises.
    """
    here = about_this_process()
    if here != order.versions:
        raise _unfit(f"A worker on {socket.gethostname()}", here, order.versions)
    return order.task(order.argument)


def _line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")


@dataclass(slots=True, eq=False)
class _Sent:
    key: str
    task: Task
    argument: Any
    again: bool = False
    future: Any = None


class _Dask:
    far = True

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._ended: queue.SimpleQueue[tuple[_Sent, Any]] = queue.SimpleQueue()
        self._sent: dict[str, _Sent] = {}
        self._versions = about_this_process()
        self._places, self._looked = 1, -_LOOK_S
        self._had_workers = False

    def places(self) -> int:
        if time.monotonic() - self._looked > _LOOK_S:
            try:
                workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            except OSError as error:
                raise self._gone() from error
            if self._had_workers and not workers:
                log.warning("No worker is left; why they ended, their logs say. Work goes on when one joins.")
            self._had_workers = bool(workers)
            self._places = max(1, _AHEAD * sum(worker["nthreads"] for worker in workers))
            self._looked = time.monotonic()
        return self._places

    def submit(self, key: str, task: Task, argument: Any) -> None:
        self._send(_Sent(key, task, argument))

    def _send(self, sent: _Sent) -> None:
        # two coordinators of one scheduler share the task of a name
        name = f"{sent.task.__name__}-{sent.key}" + ("-again" if sent.again else "")
        order = _Order(sent.task, sent.argument, self._versions)
        future = self._client.submit(do, order, key=name, pure=False, retries=_RETRIES)
        self._sent[sent.key] = sent
        sent.future = future  # who holds none has let it go
        future.add_done_callback(lambda future: self._ended.put((sent, future)))

    def next(self, timeout_s: float) -> Ended | None:
        try:
            sent, future = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            self._check_scheduler()
            return None
        if self._sent.get(sent.key) is not sent:
            return None
        if future.status == "cancelled":
            raise self._gone()
        del self._sent[sent.key]
        try:
            error = future.exception()  # a result that its worker took with it is waited for anew
            if error is None:
                return Ended(sent.key, self._client.gather(future))
        except Exception as lost:
            self._check_scheduler()
            error = lost
        finally:
            future.release()
        if type(error).__name__ != "KilledWorker":
            return Ended(sent.key, error=error)
        if sent.again:
            return Ended(sent.key, error=_lost())
        # a worker's death is laid to all that it had, of which one did it
        self._send(_Sent(sent.key, sent.task, sent.argument, again=True))
        return None

    def _check_scheduler(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> HotpixError:
        return SchedulerUnreachable(
            f"The dask scheduler at {self._address} is gone.",
            next_step="Start it again, and run the same command: it goes on where it stopped.",
        )
