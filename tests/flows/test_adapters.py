"""A campaign whose factory is trained with LoRA, killed in the middle of its training."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.loop import essence
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.miniature.families import family_folder
from selfdev_core.records import TrainManifest
from selfdev_core.store.artifacts import ArtifactStore
from tests.flows.conftest import TINY, Selfdev, command, environment_of
from tests.flows.test_campaign import result_of, written

pytestmark = pytest.mark.slow
DPO = "dpo: {steps: 4, batch_size: 4, guard_samples: 8, min_valid_share: 0.0}"
LORA = DPO.replace("steps: 4", "method: lora, lora_rank: 4, learning_rate: 1.0e-3, steps: 60")
SPREAD = "resources: {chunk_size: 6}"


def test_adapters_are_factories_and_a_killed_training_goes_on(selfdev: Selfdev, finished: Path, tmp_path: Path) -> None:
    assert DPO in TINY and SPREAD in TINY
    text = TINY.replace(DPO, LORA)
    whole, killed = tmp_path / "whole.yaml", tmp_path / "killed.yaml"
    whole.write_text(text.replace("name: tiny", "name: adapters\nstore: whole-store"))
    killed.write_text(
        text.replace("name: tiny", "name: adapters-killed\nstore: killed-store").replace(
            SPREAD, "resources: {chunk_size: 6, save_steps: 10}"
        )
    )
    selfdev("run", str(whole))
    cache = finished / "cache" / "checkpoints"
    process = subprocess.Popen(command("run", str(killed)), env=environment_of(finished), start_new_session=True)
    deadline = time.monotonic() + 600
    while not list(cache.glob("training-*/checkpoint-*/trainer_state.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(3)  # its worker notices within a second
    (saves,) = cache.glob("training-*")
    assert list(saves.glob("checkpoint-*")) and not list((tmp_path / "killed-store" / "records").glob("trained/*/*"))
    selfdev("run", str(killed))
    assert not list(cache.glob("training-*"))

    one, two = result_of(finished, "adapters"), result_of(finished, "adapters-killed")
    assert [r.factory_sha256 for r in one.iterations] == [r.factory_sha256 for r in two.iterations]
    assert essence(one) == essence(two)

    store = ArtifactStore(tmp_path / "whole-store")
    (record,) = (tmp_path / "whole-store" / "records" / "trained").rglob("*.json")
    made = store.read("trained", record.stem, TrainManifest)
    assert made is not None and made.factory.base == Checkpoint(family_folder("arithmetic") / "seed").sha256()
    folder = store.checkpoint_folder(made.factory.sha256)
    assert folder is not None and (folder / "adapter_model.safetensors").is_file()
    assert not (folder / "model.safetensors").exists()
    selfdev("gc", "--store", str(tmp_path / "whole-store"), "--days", "0", "--yes")
    assert store.objects.size(f"records/checkpoints/{made.factory.sha256[:2]}/{made.factory.sha256}.json")
    before, first = written(finished), essence(one)
    selfdev("run", str(whole))
    assert written(finished) == before and essence(result_of(finished, "adapters")) == first
