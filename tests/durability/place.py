"""Where a campaign of the kill suite runs: a home, a store, a TMPDIR of its own, and how to start it as a user does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from selfdev_core.ledger import Ledger, read_ledger
from selfdev_core.store.artifacts import ArtifactStore

# Small enough for many campaigns, whole enough to have every stage. The sandbox's deadline is far away: on a machine that
# runs other things too, a program must not become slow because of them.
CAMPAIGN = """\
name: killed
seed: 3
models: {family: arithmetic}
questions: {family: arithmetic, search: 8, validation: 12, test: 16}
factory: {iterations: 2, samples: 12, batch_size: 12}
sandbox: {seconds: 60}
dpo: {steps: 3, batch_size: 4, guard_samples: 6, min_valid_share: 0.0}
finalists: {count: 2}
controls: {human: [task_arithmetic, ties, dare], task_arithmetic: [0.6], ties: [[0.4, 1.0]], dare: [[0.6, 0.6]]}
resources: {chunk_size: 3}
"""
NAME = "killed"
# What a campaign finishes piece by piece: none of these may be computed a second time.
FINISHED = ("generated", "verdicts", "scorecards", "trained")
KEY_ID, SECRET = "AKIAKILLSUITE0000000", "s3cr3t-of-the-kill-suite"


class Place(NamedTuple):
    """`store`: a folder, or s3://bucket/prefix in the service at `direct`, which the campaign reaches through `endpoint`."""

    folder: Path
    store: str
    direct: str = ""
    endpoint: str = ""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def file(self) -> Path:
        return self.folder / "campaign.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "output.txt"

    def environment(self) -> dict[str, str]:
        """The environment of every command: nothing of this machine's own Prefect or AWS settings."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AWS_"))}
        own = {"SELFDEV_HOME": str(self.home), "TMPDIR": str(self.temporary), "COLUMNS": "200"}
        return kept | own | (aws_environment(self.endpoint) if self.endpoint else {})

    def prepare(self, campaign: str = CAMPAIGN) -> Place:
        """Make the folders, the bucket and the campaign file."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.file.write_text(f"{campaign}store: {self.store}\n", encoding="utf-8")
        if self.direct and not (service := self._service()).exists(self._bucket):
            service.call_s3("create_bucket", Bucket=self._bucket)
        return self

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """`selfdev run campaign.yaml` in a process group of its own; its output is added to the log. It ends with the block."""
        with self.log.open("ab") as log:
            driver = subprocess.Popen(
                command("run", str(self.file)),
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        try:
            yield driver
        finally:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()

    def run(self, status: int = 0, timeout: float = 900.0) -> None:
        """The campaign to its end. Raises RuntimeError with the end of its output when that is not the expected status."""
        with self.running() as driver:
            code = driver.wait(timeout)
        if code != status:
            raise RuntimeError(f"the campaign ended with {code}:\n{self.output()[-3000:]}")

    def selfdev(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), env=self.environment(), cwd=self.folder, capture_output=True, text=True, timeout=300
        )

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""

    def status(self) -> dict[str, Any]:
        """status.json as it stands; empty before there is one. Raises ValueError when it is not whole."""
        try:
            text = (self.home / "campaigns" / NAME / "status.json").read_bytes()
        except FileNotFoundError:
            return {}
        found: dict[str, Any] = json.loads(text)
        return found

    def objects(self, folder: str = "records") -> dict[str, bytes]:
        """Every object below a folder of the store, by name; read without the product's code."""
        if not self.direct:
            root = Path(self.store)
            files = (path for path in (root / folder).rglob("*") if path.is_file() and path.name[0] != ".")
            return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
        service, root = self._service(), self.store.removeprefix("s3://")
        names = service.find(f"{root}/{folder}")
        found = service.cat(names) if names else {}
        return {name.removeprefix(f"{root}/"): data for name, data in found.items()}

    def finished(self) -> dict[str, str]:
        """Every finished piece of work with what changes when it is written again: its digest and its time of writing."""
        if not self.direct:
            root = Path(self.store)
            files = [path for kind in FINISHED for path in (root / "records" / kind).rglob("*.json")]
            return {
                path.relative_to(root).as_posix(): f"{_sha256(path.read_bytes())} {path.stat().st_mtime_ns}"
                for path in files
                if path.name[0] != "."
            }
        service, root = self._service(), self.store.removeprefix("s3://")
        found = {}
        for kind in FINISHED:
            for name, info in service.find(f"{root}/records/{kind}", detail=True).items():
                found[name.removeprefix(f"{root}/")] = f"{info['ETag']} {info['LastModified'].isoformat()}"
        return found

    def ledger(self) -> Ledger:
        """What the campaign's own ledger says, read as `selfdev cost` reads it."""
        before = dict(os.environ)
        os.environ.update({"SELFDEV_HOME": str(self.home)} | (aws_environment(self.direct) if self.direct else {}))
        try:
            return read_ledger(NAME, ArtifactStore(self.store))
        finally:
            os.environ.clear()
            os.environ.update(before)

    @property
    def _bucket(self) -> str:
        return self.store.removeprefix("s3://").split("/")[0]

    def _service(self) -> Any:
        from s3fs import S3FileSystem

        return S3FileSystem(
            key=KEY_ID,
            secret=SECRET,
            client_kwargs={"endpoint_url": self.direct, "region_name": "us-east-1"},
            use_listings_cache=False,
            skip_instance_cache=True,
        )


def aws_environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *arguments]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
