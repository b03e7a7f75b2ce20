"""The service as whoever starts it meets it: where it listens, or why it cannot."""

from __future__ import annotations

import re
import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import Hotpix
from tests.hosts import ask


@pytest.mark.parametrize("workers", ["2"])
def test_a_free_port_is_told_before_it_serves(stocked: Hotpix, workers: str) -> None:
    with stocked.start("serve", "--port", "0", "--workers", workers) as process:
        try:
            assert process.stderr is not None
            told = process.stderr.readline().decode()
            (url,) = re.findall(r"^Serving at (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\)\.\n$", told)
            port = urlsplit(url).port
            assert port
            assert answered(port) == 200
        finally:
            process.terminate()


def answered(port: int) -> int:
    """The status of a service that has said where it is; its first answer may take a while."""
    for _ in range(600):
        try:
            return ask(port, "/healthz")[0]
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise AssertionError("it does not answer")


def test_an_address_that_cannot_be_had_is_one_sentence(stocked: Hotpix) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for workers in ("1", "2"):
            done = stocked("serve", "--port", port, "--workers", workers)
            done.refused(1, f"cannot listen at 127.0.0.1, port {port}: address already in use", "--port")
    stocked("serve", "--host", "203.0.113.7", "--allow-public").refused(1, "cannot assign", "--host")


def test_a_replica_that_cannot_be_one_is_one_sentence(stocked: Hotpix) -> None:
    done = stocked("serve", "--port", "0", "--read-database", "postgresql://127.0.0.1:1/copy")
    done.refused(2, "Only a PostgreSQL registry has a replica")
