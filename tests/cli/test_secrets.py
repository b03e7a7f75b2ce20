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
    for settings in (
        {},
        {"HOTPIX_DATABASE_URL": URLS[0]},
        {"HOTPIX_SERVER_URL": f"http://a:{SECRET}@127.0.0.1:1"},
    ):
        done = Hotpix(tmp_path, settings=settings)("masks")
        assert SECRET not in done.out + done.err
        assert done.code != 0 and "Traceback" not in done.err, done.err


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
