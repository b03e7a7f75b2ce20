"""No password and no token is in anything that a command prints, however it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Hotpix

SECRET = "hush-Hush-HUSH"

URLS = [
    f"postgresql://anna:{SECRET}@127.0.0.1:1/registry",
    f"postgresql://127.0.0.1:1/registry?user=anna&password={SECRET}",
    f"postgresql://anna@127.0.0.1:1/registry?sslpassword={SECRET}&sslmode=require",
    f"postgresql://anna:first@{SECRET}@127.0.0.1:1/registry",
    f"postgresql://anna:{SECRET}@127.0.0.1:one/registry",
    f"postgresql://anna:first@{SECRET}@127.0.0.1:one/registry",
    f"postgresql://anna:first/{SECRET}@127.0.0.1:one/registry",
    f"postgresql://anna:{SECRET}@[::1/registry",
    f"postgresql://anna:{SECRET}@127.0.0.1:1/registry?nonsense=1",
    f"mysql://anna:{SECRET}@127.0.0.1/registry",
    f"postgresql+asyncpg://anna:{SECRET}@127.0.0.1:1/registry",
    f"nonsense://anna:{SECRET}@127.0.0.1:x",
    f"postgresql://:{SECRET}@/",
]


@pytest.mark.parametrize("url", URLS)
def test_a_password_of_a_database_is_in_no_message(tmp_path: Path, url: str) -> None:
    for arguments in (["masks"], ["db", "check"], ["ingest", "."]):
        done = Hotpix(tmp_path, url)(*arguments)
        assert SECRET not in done.out + done.err
        assert done.code != 0 and "Traceback" not in done.err, done.err


def test_a_password_in_the_environment_or_a_file_is_in_no_message(tmp_path: Path) -> None:
    (tmp_path / "hotpix.toml").write_text(f'database_url = "{URLS[1]}"\nnonsense = 1\n')
    for settings in ({}, {"HOTPIX_DATABASE_URL": URLS[0]}):
        done = Hotpix(tmp_path, settings=settings)("masks")
        assert SECRET not in done.out + done.err
        assert done.code != 0 and "Traceback" not in done.err, done.err


SERVER = f"http://anna:{SECRET}@127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["masks"], "'http://127.0.0.1:1' was given with a user or a password. A token goes into"),
        (
            ["sync", SERVER, "--database", "new.sqlite"],
            "'http://127.0.0.1:1' was given with a user or a password. A token goes into",
        ),
        (["sync", URLS[0]], "postgresql://anna:***@127.0.0.1:1/registry cannot be reached"),
        (["sync", f"ftp://anna:{SECRET}@127.0.0.1"], "kind 'ftp'"),
        (["backup", URLS[0]], "anna:***@127.0.0.1:1/registry is no file"),
        (["verify", "--fix", "--from", URLS[0]], "anna:***@127.0.0.1:1/registry is no backup"),
        (["import", URLS[0]], ""),
        (["header", f"https://anna:{SECRET}@127.0.0.1:1/a.fits"], "was given with a user or a password"),
    ],
)
def test_a_password_of_another_place_is_in_no_message(
    stocked: Hotpix, arguments: list[str], words: str
) -> None:
    if arguments == ["masks"]:
        stocked = Hotpix(stocked.cwd, settings={"HOTPIX_SERVER_URL": SERVER})
    done = stocked(*arguments)
    assert SECRET not in done.out + done.err
    assert done.code != 0 and "Traceback" not in done.err, done.err
    assert words in done.err


def test_a_token_is_printed_once_and_never_again(hotpix: Hotpix) -> None:
    with hotpix.opened():  # which makes the registry
        pass
    secret = hotpix("token", "create", "dome", "--scope", "ingest").ended_with(0).out.strip()
    assert secret.startswith("hp_")
    for arguments in (
        ["token", "list"],
        ["token", "list", "--format", "json"],
        ["token", "create", "dome", "--scope", "ingest"],
        ["log", "--format", "json"],
        ["token", "revoke", "dome", "--reason", "lost"],
        ["token", "revoke", "dome", "--reason", "again"],
        ["verify"],
    ):
        done = hotpix(*arguments)
        assert secret not in done.out + done.err, arguments
