"""The command line: one thin command per use case; every error becomes one sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import getdoc
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from hotpix_registry import __version__
from hotpix_registry.cli.garbage import expect_imports
from hotpix_registry.cli.output import say
from hotpix_registry.errors import HotpixError

_MODULES = {
    "frame_commands": ("ingest", "header", "frames"),
    "build_commands": ("build",),
    "recipe_commands": ("recipe",),
    "mask_commands": ("mask",),
    "version_commands": ("masks", "show", "plot", "import", "edit", "demo"),
    "life_commands": ("certify", "revoke", "decertify", "event", "release", "log", "history"),
    "apply_commands": ("apply",),
    "report_commands": ("report",),
    "story_commands": ("diff", "affected", "coverage", "trend"),
    "cite_commands": ("cite",),
    "defect_commands": ("defects",),
    "camera_commands": ("cameras",),
    "archive_commands": ("identify", "survey"),
    "keeping_commands": ("export", "backup", "verify", "relocate"),
    "mirror_commands": ("sync",),
    "serve_commands": ("serve",),
    "token_commands": ("token",),
    "database_commands": ("db",),
}
_MODULE_OF = {command: module for module, commands in _MODULES.items() for command in commands}


def _part(module: str) -> typer.Typer:
    part = typer.Typer(rich_markup_mode=None)  # boxes waste a third of the width and half of the time
    import_module(f"hotpix_registry.cli.{module}").register(part)
    return part


class _Commands(Mapping[str, Any]):
    """The commands by name; their module is imported when one of them is wanted."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made |= typer.main.get_group(_part(_MODULE_OF[name])).commands
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULE_OF)

    def __len__(self) -> int:
        return len(_MODULE_OF)


COMMANDS = _Commands()


class _Group(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": COMMANDS})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        whole, self.commands = self.commands, _headings()
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = whole


def _headings() -> dict[str, Any]:
    """The commands without their options, which the list of them does not show and which take time."""
    help_of: dict[str, str | None] = {}
    for part in map(_part, _MODULES):
        for group in part.registered_groups:
            assert group.name and group.typer_instance
            help_of[group.name] = group.typer_instance.info.help
        for command in part.registered_commands:
            assert command.callback
            help_of[command.name or command.callback.__name__] = getdoc(command.callback)
    first = {name: (text or "").partition("\n\n")[0] for name, text in help_of.items()}
    return {name: TyperCommand(name, short_help=first[name], rich_markup_mode=None) for name in _MODULE_OF}


app = typer.Typer(
    cls=_Group,
    name="hotpix-registry",
    help="A registry of hot-pixel masks: dark frames in, the right mask for any date out.",
    epilog="Begin with: hotpix-registry demo, or: hotpix-registry ingest -r DARKS",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
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


def main() -> None:
    """Run the command line; what a user did wrong ends in one sentence on standard error."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal without a degree sign, or a file name that is no text, must not end in a traceback
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    expect_imports()
    try:
        app()
    except HotpixError as error:
        say(f"hotpix-registry: {error}")
        sys.exit(error.exit_code)
