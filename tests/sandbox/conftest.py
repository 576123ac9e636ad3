"""One warm sandbox for the whole folder; a test that kills its worker leaves the next test a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from selfdev_core.sandbox.bundle import Bundle, write_bundle
from selfdev_core.sandbox.client import Run, Sandbox

SHAPES = {
    "model.layers.0.mlp.up_proj.weight": (6, 4),
    "model.layers.1.mlp.up_proj.weight": (6, 4),
    "model.layers.1.mlp.bias": (5,),
    "model.scale": (),
}
AVERAGE = "def merge_models(model_dict, device):\n    return 0.5 * sum(model_dict.values())\n"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    import torch

    generator = torch.Generator().manual_seed(7)
    vectors = {
        name: {expert: torch.randn(shape, generator=generator) for expert in ("alpha", "beta")}
        for name, shape in SHAPES.items()
    }
    return write_bundle(tmp_path_factory.mktemp("bundle") / "probes.safetensors", vectors, ("alpha", "beta"), blocks=2)


@pytest.fixture(scope="session")
def sandbox(bundle: Bundle) -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as environment, Sandbox({"probes": bundle}, 30.0, 1.0) as one:  # the best level
        environment.setenv("SELFDEV_TEST_SECRET", "hunter2")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        one.run(AVERAGE, "probes")  # the worker starts here, with the secrets in our environment
        yield one


@pytest.fixture(scope="session")
def assert_keeps_the_contract() -> Callable[[Run, Bundle], None]:
    return _assert_keeps_the_contract


def _assert_keeps_the_contract(run: Run, bundle: Bundle) -> None:
    """Whatever a program did: all tensors as promised, or a named reason and none."""
    import torch

    if run.reason != "accepted":
        assert run.tensors == {}
        run.detail.encode("utf-8")
        return
    assert list(run.tensors) == list(bundle.shapes)
    for name, tensor in run.tensors.items():
        assert tensor.dtype == torch.float32 and tuple(tensor.shape) == bundle.shapes[name]
        assert bool(torch.isfinite(tensor).all())
        assert not tensor.requires_grad


@pytest.fixture
def healthy(sandbox: Sandbox, bundle: Bundle) -> Iterator[None]:
    """After the test, an ordinary program gives the right tensors."""
    import torch

    from selfdev_core.sandbox.bundle import read_bundle

    yield
    run = sandbox.run(AVERAGE, "probes")
    assert run.reason == "accepted", run.detail
    _assert_keeps_the_contract(run, bundle)
    _, vectors = read_bundle(bundle.path)
    for name, by_expert in vectors.items():
        assert torch.equal(run.tensors[name], 0.5 * sum(by_expert.values()))
