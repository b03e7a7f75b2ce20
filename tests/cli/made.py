"""Imported by the process that commands are forked from: what each of them would make anew is made there."""

from hotpix_registry.cli import COMMANDS

MADE = dict(COMMANDS)
