"""The section `engine`: what it refuses, what it leaves in keys, which vLLM it takes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from selfdev_core.config import content_of, load_campaign
from selfdev_core.engines.choose import dtype_of, key_of
from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.environment import LEAST, RANGE, check_environment, clean_environment
from selfdev_core.errors import ConfigError, EngineError
from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.evaluation.graders.spec import GraderSpec
from selfdev_core.iteration import CampaignPlan
from selfdev_core.miniature.families import family_folder
from selfdev_core.prepare import prepare
from selfdev_core.records import FactoryRef
from selfdev_core.resources import ResourcesConfig
from selfdev_core.scores import ask_campaign, score
from selfdev_core.stages.jobs import GenerateJob
from selfdev_core.workers.pool import WorkerPool
from tests.flows.conftest import TINY


@pytest.fixture
def python(tmp_path: Path) -> Callable[[str], Path]:
    """A program that answers like the Python of an environment with that version of vLLM."""

    def make(version: str) -> Path:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\necho {version}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


@pytest.mark.parametrize("version", ["0.31.4", "0.33.0", "0.9.2", "1.0.0", "dev"])
def test_a_vllm_out_of_range_is_refused(version: str, python: Callable[[str], Path]) -> None:
    config = EngineConfig(kind="vllm", python=python(version))
    with pytest.raises(
        ConfigError, match=r"engine.python: .*python has vLLM .*selfdev works with >=.*selfdev vllm install"
    ):
        check_environment(config)


@pytest.mark.parametrize("version", [f"{LEAST[0]}.{LEAST[1]}.0", f"{LEAST[0]}.{LEAST[1]}.1.post1+cpu"])
def test_a_vllm_in_range_is_taken(version: str, python: Callable[[str], Path]) -> None:
    check_environment(EngineConfig(kind="vllm", python=python(version)))


def test_an_environment_without_vllm_or_not_there_is_refused(
    python: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="has no vLLM"):
        check_environment(EngineConfig(kind="vllm", python=python("")))
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path / "home"))
    with pytest.raises(ConfigError, match=r"engine.kind: vllm: there is no Python at .*home.*selfdev vllm install"):
        check_environment(EngineConfig(kind="vllm"))


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7:8000",
        "http://gpu-node:8000",
        "https://127.0.0.1:8000",
        "http://127.0.0.1",
        "http://me:secret@127.0.0.1:8000",
        "unix://engine.sock",
        "127.0.0.1:8000",
        "http://127.0.0.1:99999",
    ],
)
def test_an_engine_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="is no engine on this machine"):
        EngineConfig(kind="vllm", urls=(url,))


def test_settings_that_would_do_nothing_or_contradict_are_refused() -> None:
    assert EngineConfig(kind="vllm", urls=("unix:///run/e.sock", "http://127.0.0.1:8000"), gpus=2).urls
    with pytest.raises(ValidationError, match="gpus: only for kind: vllm"):
        EngineConfig(gpus=2)
    with pytest.raises(ValidationError, match="6 GPUs cannot be shared out to engines of 4"):
        EngineConfig(kind="vllm", gpus=6, tensor_parallel=4)
    with pytest.raises(ValidationError, match="not both"):
        EngineConfig(kind="vllm", urls=("unix:///run/e.sock",), python=Path("python"))


def test_the_default_engine_leaves_no_trace_in_keys_and_another_does() -> None:
    grader = GraderSpec(name="number", version="1")
    decoding = Decoding(template="{question}", max_new_tokens=8, batch_size=2, grader=grader)
    assert "engine" not in decoding.model_dump()
    half, whole = (key_of(EngineConfig(kind="vllm"), dtype) for dtype in ("bfloat16", "float32"))
    digests = {decoding.model_copy(update={"engine": key}).digest for key in ("", half, whole)}
    assert len(digests) == 3
    job = GenerateJob(
        factory=FactoryRef(sha256="f"),
        prompt="p",
        start=0,
        count=1,
        temperature=1.0,
        top_p=1.0,
        max_new_tokens=8,
        batch_size=1,
        seed=0,
    )
    assert "engine" not in job.model_dump()
    assert len({job.model_copy(update={"engine": key}).digest for key in ("", half, whole)}) == 3


def test_a_checkpoint_is_scored_by_the_engine_of_the_campaign(
    python: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path / "home"))
    file = tmp_path / "tiny.yaml"
    file.write_text(f"{TINY}engine: {{kind: vllm, python: {python('0.32.1')}, gpus: 0, dtype: float32}}\n")
    asked = ask_campaign(file, "search", 2)
    assert asked.decoding.engine == "vllm float32"
    with pytest.raises(EngineError, match=r"the vLLM engine for .*seed ended"):  # it was the one to be asked
        score(family_folder("arithmetic") / "seed", asked, 1, str(tmp_path / "store"))


def test_a_result_says_in_what_vllm_computed_it(
    python: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that one of another machine, where `auto` means another dtype, is not taken for this configuration's."""
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path / "home"))
    file = tmp_path / "tiny.yaml"
    file.write_text(f"{TINY}engine: {{kind: vllm, python: {python('0.32.1')}}}\n")
    told = {}
    for visible, expected in (("", "float32"), ("0", "bfloat16")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        plan = prepare(load_campaign(file)).plan
        assert plan.config.engine.dtype == expected
        told[expected] = content_of(plan.config.model_dump(mode="json"))
    assert told["float32"] != told["bfloat16"]


def test_the_dtype_of_transformers_is_in_keys_unless_it_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    local, vllm = EngineConfig(), EngineConfig(kind="vllm", dtype="float16")
    here, one = ResourcesConfig(), ResourcesConfig(runner="ray", gpus_per_worker=0.5)
    for gpu, expected in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr("selfdev_core.engines.choose._gpu_here", lambda gpu=gpu: gpu)
        assert dtype_of(local, here) == expected and dtype_of(vllm, here) == "float16"
    assert dtype_of(local, one) == "bfloat16" and dtype_of(local, ResourcesConfig(runner="ray")) == "float32"
    assert key_of(local, "float32") == "" and key_of(local, "bfloat16") == "transformers bfloat16"
    assert key_of(vllm, "float16") == "vllm float16" and key_of(vllm, "float32") == "vllm float32"


@pytest.mark.parametrize(
    ("visible", "engine", "expected"),
    [
        ("", {}, "float32"),
        ("0", {}, "bfloat16"),
        ("0", {"gpus": 0}, "float32"),
        ("", {"urls": ("unix:///run/e.sock",)}, "bfloat16"),
        ("", {"dtype": "bfloat16"}, "bfloat16"),
        ("0", {"dtype": "float16"}, "float16"),
    ],
)
def test_vllm_computes_in_bfloat16_and_on_the_cpu_in_float32_unless_told(
    monkeypatch: pytest.MonkeyPatch, visible: str, engine: dict[str, Any], expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert dtype_of(EngineConfig(kind="vllm", **engine), ResourcesConfig()) == expected


@pytest.mark.slow
def test_workers_compute_in_the_dtype_that_keys_hold(pico: Any, tmp_path: Path) -> None:
    with WorkerPool(1, tmp_path, "bfloat16") as pool:
        assert pool.call(_dtype_in_worker, pico.seed) == "torch.bfloat16"


def _dtype_in_worker(folder: Path) -> str:
    from selfdev_core.workers.models import load

    return str(load(folder).model.dtype)


def test_where_an_engine_runs_changes_no_result() -> None:
    one = {"seed": 0, "engine": EngineConfig(kind="vllm", gpus=4).model_dump(mode="json")}
    other = {"seed": 0, "engine": EngineConfig(kind="vllm", gpus=0, kv_cache_gb=2.0).model_dump(mode="json")}
    assert content_of(one) == content_of(other) != content_of({"seed": 0, "engine": {}})
    assert content_of({"seed": 0}) == content_of({"seed": 0, "engine": EngineConfig().model_dump(mode="json")})
    assert "engine" in CampaignPlan.model_fields["config"].annotation.model_fields  # type: ignore[union-attr]


def test_the_engine_is_told_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY", "HF_TOKEN", "PYTHONPATH", "VLLM_API_KEY"):
        monkeypatch.setenv(name, "secret")
    told = clean_environment()
    assert "secret" not in told.values() and told["PATH"] == os.environ["PATH"]


def test_the_image_takes_the_vllm_that_is_supported_and_lints() -> None:
    image = Path(__file__).parents[2] / "deployments" / "images" / "gpu-vllm.Dockerfile"
    assert f'"vllm{RANGE}"' in image.read_text(encoding="utf-8")
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "--format", "json", image], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == [], done.stdout
