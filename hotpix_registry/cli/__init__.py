"""The command line: one thin command per use case; every error becomes one sentence and an exit code."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from hotpix_registry import __version__
from hotpix_registry.cli import (
    apply_commands,
    archive_commands,
    build_commands,
    camera_commands,
    cite_commands,
    database_commands,
    defect_commands,
    frame_commands,
    keeping_commands,
    life_commands,
    mask_commands,
    report_commands,
    story_commands,
    version_commands,
)
from hotpix_registry.cli.output import say
from hotpix_registry.errors import HotpixError

app = typer.Typer(
    name="hotpix-registry",
    help="A registry of hot-pixel masks: dark frames in, the right mask for any date out.",
    epilog="Begin with: hotpix-registry demo, or: hotpix-registry ingest -r DARKS",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A registry of hot-pixel masks: dark frames in, the right mask for any date out."""


frame_commands.register(app)
build_commands.register(app)
mask_commands.register(app)
version_commands.register(app)
life_commands.register(app)
apply_commands.register(app)
report_commands.register(app)
story_commands.register(app)
cite_commands.register(app)
defect_commands.register(app)
camera_commands.register(app)
archive_commands.register(app)
keeping_commands.register(app)
database_commands.register(app)


def main() -> None:
    """Run the command line; what a user did wrong ends in one sentence on standard error."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal without a degree sign, or a file name that is no text, must not end in a traceback
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except HotpixError as error:
        say(f"hotpix-registry: {error}")
        sys.exit(error.exit_code)
