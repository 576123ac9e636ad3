"""The GPU executor, with the CPU in the GPU's place and torch.cuda replaced where it is asked about the device."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from selfdev_core.sandbox import cuda_worker
from selfdev_core.sandbox.bundle import Bundle, read_bundle
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.cuda import CudaExecutor

AVERAGE = "def merge_models(model_dict, device):\n    return 0.5 * sum(model_dict.values())\n"
# The CPU jail lets a program read its own process number; here the two runs differ by it (1 is never a program's).
ON_THE_DEVICE = "import os\ndef here():\n    return os.getpid() == 1\n"


@pytest.fixture
def executor(sandbox: Sandbox) -> CudaExecutor:
    return CudaExecutor(sandbox, 30.0, 1.0, device="cpu")


def test_the_same_tensors_come_back_as_from_the_jail(executor: CudaExecutor, sandbox: Sandbox) -> None:
    import torch

    noisy = "import torch\ndef merge_models(m, device):\n    return sum(m.values()) * torch.rand((), device=device)\n"
    there, here = executor.run(noisy, "probes"), sandbox.run(noisy, "probes")
    assert there.reason == "accepted", there.detail
    assert all(torch.equal(there.tensors[name], tensor) for name, tensor in here.tensors.items())


@pytest.mark.parametrize("body", ["raise ValueError('no')", "return 1", "open('/etc/passwd')"])
def test_a_program_that_fails_the_probes_never_reaches_the_device(
    body: str, executor: CudaExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CudaExecutor, "_started", lambda *_: pytest.fail("reached the device"))
    assert executor.run(f"def merge_models(m, device):\n    {body}\n", "probes").reason != "accepted"


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("return v * float('nan')", "not-finite"),
        ("return v[:0]", "wrong-shape"),
        ("os.write(3, b'x' * 8)", "no-result"),
        ("os._exit(0)", "exited"),
        ("__import__('time').sleep(600)", "time-limit"),
    ],
)
def test_what_goes_wrong_on_the_device_only_gets_the_same_verdicts(
    act: str, reason: str, executor: CudaExecutor, sandbox: Sandbox
) -> None:
    if sandbox.level != "strict":
        pytest.skip("the program tells the device by its process number, which is 1 in its namespace")
    source = ON_THE_DEVICE + (
        f"def merge_models(m, device):\n    v = list(m.values())[0]\n    if here():\n        {act}\n    return v * 0.5\n"
    )
    executor.seconds = 6.0 if reason == "time-limit" else 30.0
    began = time.monotonic()
    assert executor.run(source, "probes").reason == reason
    assert time.monotonic() - began < executor.seconds + 1.0


def test_on_the_device_there_is_no_network_no_environment_and_no_root(
    executor: CudaExecutor, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sandbox.level != "strict":
        pytest.skip("namespaces are needed")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    source = ON_THE_DEVICE + (
        "import socket\nif here():\n    assert os.geteuid() and not os.environ\n"
        "    try: socket.create_connection(('192.0.2.1', 9), 1)\n    except OSError as error: assert error.errno == 101\n"
    )
    run = executor.run(source + AVERAGE, "probes")
    assert run.reason == "accepted", run.detail


def test_a_process_takes_no_more_than_its_share_of_the_devices_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked: list[tuple[float, str]] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 << 30))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: asked.append((share, device))
    )
    cuda_worker.bound_memory("cuda:1", 20 << 30)
    cuda_worker.bound_memory("cuda:0", 200 << 30)
    cuda_worker.bound_memory("cpu", 20 << 30)
    assert asked == [(0.25, "cuda:1"), (1.0, "cuda:0")]


def test_the_device_s_vectors_are_those_of_the_bundle(bundle: Bundle, executor: CudaExecutor) -> None:
    import torch

    run = executor.run("def merge_models(m, device):\n    return m['beta'] * 1\n", "probes")
    _, vectors = read_bundle(bundle.path)
    assert run.reason == "accepted" and os.path.exists(bundle.path)
    assert all(torch.equal(run.tensors[name], of["beta"]) for name, of in vectors.items())
