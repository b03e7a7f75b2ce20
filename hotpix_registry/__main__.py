"""The program; Ctrl-C ends it in one sentence and exit code 130 from its first lines to its last."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time

_SENTENCE = b"hotpix-registry: Interrupted; nothing is left half-written.\n"
_GRACE_S = 2.0
"""how long what was begun may take to clean up after itself"""

_is_interrupted = False


class _Interrupted(BaseException):
    """Unwinds what was begun; no library knows it, and so none makes an answer of its own of it."""


def main() -> None:
    """Run the command line."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else deaf to it, as with nohup
            signal.signal(signal.SIGINT, _interrupt)
        code = _run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done
    except BaseException:
        if _is_interrupted:
            _leave()
        raise
    if _is_interrupted:
        _leave()
    sys.exit(code)


def _run() -> str | int | None:
    from hotpix_registry.cli import main as run

    try:
        run()
    except SystemExit as ended:
        return ended.code
    return 0


def _interrupt(*_: object) -> None:
    global _is_interrupted
    if _is_interrupted:
        _leave()
    _is_interrupted = True
    sys.unraisablehook = lambda _: None  # it may be raised in a finalizer, which forgets it
    if logging := sys.modules.get("logging"):
        logging.disable()
    _thread.start_new_thread(_leave_soon, ())
    raise _Interrupted


def _leave_soon() -> None:
    time.sleep(_GRACE_S)
    if os.isatty(2):
        os.write(2, b"\x1b[?25h")  # a progress bar hides the cursor
    _leave()


def _leave() -> None:
    """End at once: what the interpreter does at its end is not made to be interrupted."""
    os.write(2, b"\n" + _SENTENCE if os.isatty(2) else _SENTENCE)
    os._exit(130)


if __name__ == "__main__":
    main()
