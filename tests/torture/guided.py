"""The process in which atheris feeds one reader: `python -m tests.torture.guided TARGET FOLDER FLAGS…`."""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
from pathlib import Path

for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"  # each thread takes address space

import atheris  # noqa: E402

with atheris.instrument_imports(include=["hotpix_registry", "astropy.io.fits", "tomllib"]):
    from tests.torture.fuzz import MEMORY_MB, fault_of, strict_warnings
    from tests.torture.targets import TARGETS


def main() -> None:
    target, folder, flags = TARGETS[sys.argv[1]], Path(sys.argv[2]), sys.argv[3:]
    faults = (folder / "faults").open("w", encoding="utf-8", buffering=1)
    target.seeds()  # imports what is imported late
    scratch = Path(tempfile.mkdtemp(dir=folder))
    strict_warnings().__enter__()

    def feed(data: bytes) -> None:
        if fault := fault_of(target, data, scratch):
            faults.write(json.dumps({"fault": fault, "input": data.hex()}) + "\n")

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        changed = bytes(data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            known = rng.random() < 0.7
            changed = target.mutate(changed, rng) if known else atheris.Mutate(changed, most)
        return changed[:most]

    limit = _address_space() + (MEMORY_MB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    atheris.Setup([sys.argv[0], *flags], feed, custom_mutator=mutate)
    atheris.Fuzz()


def _address_space() -> int:
    """Bytes of it that this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


main()
