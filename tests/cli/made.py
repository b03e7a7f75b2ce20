"""Imported by the process that commands are forked from: what each of them would make anew is made there."""

import tempfile

from hotpix_registry.cli import COMMANDS
from hotpix_registry.registry import Registry

MADE = dict(COMMANDS)

with tempfile.TemporaryDirectory() as folder:
    Registry(f"{folder}/registry.sqlite").close()
