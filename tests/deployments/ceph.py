"""A Ceph cluster of one monitor and one memory-backed OSD with an S3 gateway, from Debian's packages, for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.deployments.services import SECONDS, free_port, running

ABSENT = "Ceph is not installed (Debian: apt-get install ceph-mon ceph-osd radosgw)"
_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")


def installed() -> bool:
    """Whether this machine can start one; tests skip with ABSENT where it cannot."""
    return all(shutil.which(name) for name in _PROGRAMS)


@contextmanager
def gateway(key: str, secret: str, logs: Path) -> Iterator[str]:
    """Endpoint of an S3 service that takes this key."""
    folder = Path(tempfile.mkdtemp(prefix="selfdev-ceph-"))
    monitor, port = free_port(), free_port()
    configuration = folder / "ceph.conf"
    configuration.write_text(_configuration(folder, monitor))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CEPH_CONF": str(configuration)}

    def do(*words: str) -> str:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=SECONDS, cwd=folder)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/", timeout=5).status_code in (200, 403)
        except httpx.HTTPError:
            return False

    def ready(*words: str) -> bool:
        return subprocess.run(words, env=environment, capture_output=True, timeout=SECONDS).returncode == 0

    try:
        cluster, osd = str(uuid.uuid4()), str(uuid.uuid4())
        configuration.write_text(configuration.read_text().replace("FSID", cluster))
        for name in ("mon", "osd", "run"):
            (folder / name).mkdir()
        monmap = str(folder / "monmap")
        do("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{monitor}]", "--fsid", cluster, monmap)
        do("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        with ExitStack() as stack:
            quorum = ("ceph", "--connect-timeout", "5", "mon", "stat")
            start = ["ceph-mon", "-i", "a", "-f"]
            stack.enter_context(running(start, environment, logs / "ceph-mon.log", lambda: ready(*quorum)))
            number = do("ceph", "osd", "new", osd).strip()
            (folder / "osd" / number).mkdir()
            do("ceph-osd", "-i", number, "--mkfs", "--osd-uuid", osd)
            start = ["ceph-osd", "-i", number, "-f"]
            up = "1 up"
            stack.enter_context(
                running(start, environment, logs / "ceph-osd.log", lambda: up in do("ceph", "osd", "stat"))
            )
            made = ("radosgw-admin", "user", "create", "--uid=selfdev", "--display-name=selfdev")
            do(*made, f"--access-key={key}", f"--secret={secret}")
            start = ["radosgw", "-n", "client.rgw", "-f", f"--rgw-frontends=beast endpoint=127.0.0.1:{port}"]
            stack.enter_context(running(start, environment, logs / "ceph-rgw.log", answers))
            yield f"http://127.0.0.1:{port}"
    finally:
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def _configuration(folder: Path, monitor: int) -> str:
    return f"""
[global]
fsid = FSID
mon host = [v2:127.0.0.1:{monitor}]
public addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data = {folder}/mon/$id
osd data = {folder}/osd/$id
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
log file =
log to stderr = true
"""
