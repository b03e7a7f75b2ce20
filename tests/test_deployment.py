"""What ships for a deployment fits the program: units, settings, routes, and the rights of the roles."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer
from typer.core import TyperGroup

from hotpix_registry import Registry, settings
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import opening
from hotpix_registry.cli import app
from hotpix_registry.domain import Recipe, Rule, Scope
from hotpix_registry.errors import DatabaseUnavailable
from hotpix_registry.web.app import create_app
from tests.databases import PostgreSQL
from tests.small_camera import write_campaign
from tests.story import CAMERA

DEPLOY = settings.data_dir("config") / "deploy"
FILES = sorted(path.name for path in DEPLOY.iterdir() if path.name != "README.md")
UNITS = [name for name in FILES if name.endswith((".service", ".socket", ".timer"))]
PROGRAM = "/opt/hotpix-registry/bin/hotpix-registry"
OTHERS = {"PGPASSFILE", "FORWARDED_ALLOW_IPS", "SOURCE"}
"""settings of what we stand on, and one that a unit reads itself"""


def lines(name: str, key: str) -> list[str]:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_the_walk_through_names_each_file(name: str) -> None:
    assert f"`{name}`" in (DEPLOY / "README.md").read_text(encoding="utf-8")


def commands() -> list[tuple[str, list[str]]]:
    """Where a command of ours is told, and its words."""
    found = [(name, line) for name in UNITS for line in lines(name, "ExecStart")]
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    found += [
        ("README.md", line) for line in re.findall(r"^    (hotpix-registry .*?)(?:  #.*)?$", text, re.M)
    ]
    return [(name, shlex.split(line)) for name, line in found]


@pytest.mark.parametrize(("name", "words"), commands(), ids=lambda part: str(part)[:40])
def test_what_is_run_is_a_command_with_options_that_it_has(name: str, words: list[str]) -> None:
    assert words[0] == (PROGRAM if name in UNITS else "hotpix-registry")
    command, rest = typer.main.get_command(app), words[1:]
    while isinstance(command, TyperGroup):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= known


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".env")])
def test_each_setting_is_one_that_is_read(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    named = set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    assert named - OTHERS <= {f"HOTPIX_{key.upper()}" for key in settings.KEYS}
    assert name in {path.rpartition("/")[2] for unit in UNITS for path in lines(unit, "EnvironmentFile")}


def test_each_unit_that_another_needs_is_there() -> None:
    for name in UNITS:
        needed = [*lines(name, "Requires"), *([name.replace(".timer", ".service")] * name.endswith(".timer"))]
        for unit in needed:
            assert unit.replace("%i", "") in UNITS


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Where there is a systemd; what is in them is looked at above in any case."""
    if (analyze := shutil.which("systemd-analyze")) is None:
        assert all("[Unit]" in (DEPLOY / name).read_text(encoding="utf-8") for name in UNITS)
        return
    (tmp_path / "hotpix-registry").write_text("#!/bin/sh\n")
    (tmp_path / "hotpix-registry").chmod(0o755)
    for name in UNITS:
        text = (DEPLOY / name).read_text(encoding="utf-8")
        own = tmp_path / name.replace("@.", "@8471.")
        own.write_text(text.replace(PROGRAM, str(tmp_path / "hotpix-registry")))
    paths = [tmp_path / name.replace("@.", "@8471.") for name in UNITS]
    done = subprocess.run([analyze, "verify", *paths], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "hotpix" in line]
    assert (done.returncode, ours) == (0, [])


def test_each_place_of_the_balancer_is_a_route() -> None:
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    assert text.count("{") == text.count("}")
    examples = ["/", *(re.sub(r"\{[^}]*\}", "7", path) for path in create_app().openapi()["paths"])]
    for how, place in re.findall(r"^    location (= |~ )?(\S+) \{", text, re.MULTILINE):
        pattern = place if how == "~ " else re.escape(place)
        assert any(re.search(pattern, path) for path in examples), place
    uploads = int(re.findall(r"client_max_body_size (\d+)g", text)[0]) << 30
    assert uploads == 1 << 30


def test_nginx_takes_the_example(tmp_path: Path) -> None:
    """Where there is an nginx."""
    if (nginx := shutil.which("nginx")) is None:
        return
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    plain = re.sub(r"^\s*ssl_cert.*$", "", text, flags=re.MULTILINE).replace("443 ssl", "443")
    (tmp_path / "site.conf").write_text(plain.replace("/var/cache/nginx/hotpix", str(tmp_path / "cache")))
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; events {{}} http {{ include {tmp_path}/site.conf; }}"
    )
    done = subprocess.run(
        [nginx, "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- the roles of the database ----------------------------------------------------------------

NAME = "deployed"


@pytest.fixture(scope="module")
def roles(postgresql: PostgreSQL) -> Iterator[dict[str, str]]:
    """Role → its address of a registry that was made as the walk-through says."""

    def run_roles() -> None:
        postgresql.run("psql", "-q", "-v", f"database={NAME}", "-f", str(DEPLOY / "roles.sql"))

    run_roles()
    base = sa.make_url(postgresql.create())
    addresses = {
        role: base.set(username=f"hotpix_{role}", database=NAME).render_as_string(hide_password=False)
        for role in ("owner", "writer", "reader")
    }
    owner = databases.connect(databases.parse_url(addresses["owner"]))
    opening.upgrade(owner)
    owner.dispose()
    run_roles()
    run_roles()
    yield addresses
    postgresql.forget(NAME, *(f"hotpix_{role}" for role in addresses))


def test_the_writer_does_all_that_the_service_does(roles: dict[str, str], tmp_path: Path) -> None:
    write_campaign(tmp_path / "darks")
    (tmp_path / "darks" / "notes.fits").write_bytes(b"SIMPLE")
    with Registry(roles["writer"], create=False) as registry:
        for _ in range(2):
            registry.ingest([tmp_path / "darks"])
        registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
        rolled_out_tx = registry.roll_out("current", "limit=10", reason="a test").rolled_out_tx
        assert rolled_out_tx is not None
        registry.roll_back(rolled_out_tx, reason="a test")
        registry.add_event(CAMERA, "2022-01-01", "anneal", trim=True)
        registry.revoke(1, reason="a test")
        registry.lift_revocation(1, reason="a test")
        registry.create_release("2021A")
        token = registry.create_token("dome", [Scope.BUILD]).token
        registry.queue_build(CAMERA, {"limit": 4}, most_waiting=3)
        assert registry.run_next_job(roots=(), at_once=1)
        registry.revoke_token(token.name, reason="a test")
        assert not registry.verify(frames=False).findings


def test_the_reader_answers_and_copies_and_writes_nothing(roles: dict[str, str], tmp_path: Path) -> None:
    with Registry(roles["writer"], create=False) as registry:
        write_campaign(tmp_path / "darks")
        registry.ingest([tmp_path / "darks"])
        registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    with Registry(roles["reader"], create=False) as registry:
        assert registry.mask(CAMERA, "2021-03-04").answer.mask_id >= 1
        assert registry.masks()
        registry.backup(tmp_path / "backup.sqlite")
        assert not registry.verify(frames=False).findings
        with pytest.raises(DatabaseUnavailable, match="may not be used: permission denied"):
            registry.create_release("late")


def test_nobody_but_the_owner_changes_a_table(roles: dict[str, str]) -> None:
    statements = (
        "UPDATE alembic_version SET version_num = 'other'",
        "DROP TABLE passed_over",
        "ALTER TABLE masks DISABLE TRIGGER ALL",
        "UPDATE assignments SET valid_from_us = 0",
        "DELETE FROM transactions",
        "CREATE TABLE theirs (id int)",
    )
    for role in ("writer", "reader"):
        engine = databases.connect(databases.parse_url(roles[role]))
        for statement in statements:
            with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError) as refused:
                connection.exec_driver_sql(statement)
            assert getattr(refused.value.orig, "sqlstate", None) == "42501", statement
        engine.dispose()


def test_the_folder_is_found_as_the_walk_through_says() -> None:
    code = "from hotpix_registry.settings import data_dir; print(data_dir('config'))"
    assert code in (DEPLOY / "README.md").read_text(encoding="utf-8")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (Path(told.stdout.strip()) / "deploy" / "roles.sql").is_file()
