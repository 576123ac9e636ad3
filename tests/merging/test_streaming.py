"""Merges stream: results come one by one, are added to the seed and written as they come."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from selfdev_core.errors import CheckpointError, StoreError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.merge import merge, merge_into, merged_specs, write_bundles
from selfdev_core.merging.saved import ModelFolder
from selfdev_core.sandbox.bundle import read_bundle
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.received import Received
from selfdev_core.tensors.finite import finite
from selfdev_core.tensors.mapped import MappedFile, read_header
from selfdev_core.tensors.written import Behind, Buffers, Spec, TensorFile

HALF = "def merge_models(m, device):\n    return 0.5 * sum(m.values())\n"
_FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_models(tmp_path: Path) -> None:
    """The whole command, on sets of some 0.5 and 1.5 GB whose largest tensors are the same."""
    from benchmarks.checkpoints import Shape, write_model
    from benchmarks.merge import EXPERTS, Took, ours

    took: list[Took] = []
    for layers in (4, 12):
        shape = Shape(hidden=1024, inner=4096, layers=layers, heads=16, kv_heads=4, vocabulary=512)
        models, out = tmp_path / f"models-{layers}", tmp_path / f"out-{layers}"
        write_model(models / "seed", shape, 1, 10**9)
        for number, name in enumerate(EXPERTS, 2):
            write_model(models / name, shape, number, 10**9, near=models / "seed")
        took.append(ours(HALF, models, out, "all", tmp_path / f"{layers}.log", 2.0))
        shutil.rmtree(models)
        shutil.rmtree(out)
    grown = [getattr(took[1], what) - getattr(took[0], what) for what in ("own", "resident")]
    assert max(grown) < 0.15, took  # 1 GB where everything is held


def test_a_mixed_set_merges_and_is_saved_in_the_seeds_format_with_everything_a_folder_has(
    mixed: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    opened = {name: Checkpoint(folder) for name, folder in mixed.items()}
    seed = opened.pop("seed")
    (seed.folder / "LICENSE").write_text("as the seed's")
    (seed.folder / "README.md").write_text("the seed's own card")
    (seed.folder / "modeling.py").write_text("raise SystemExit")
    with Sandbox(write_bundles(seed, opened, "all", tmp_path), 60.0, 2.0) as sandbox:
        _, kept = merge("a-1", HALF, seed, sandbox)
        with ModelFolder(seed, tmp_path / "out") as folder:
            record = merge_into(folder, "a-1", HALF, seed, sandbox)
            folder.describe("# card\n")
    out = Checkpoint(tmp_path / "out")
    assert record.verdict.accepted and out.dtypes == seed.dtypes and set(kept) == set(seed.shapes)
    for name, tensor in kept.items():
        expected = seed.tensor(name).float() + 0.5 * sum(
            model.tensor(name).float() - seed.tensor(name).float() for model in opened.values()
        )
        assert torch.equal(tensor, expected.bfloat16()) and torch.equal(out.tensor(name), tensor)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "LICENSE", "README.md"} <= files
    assert "modeling.py" not in files and (tmp_path / "out" / "README.md").read_text() == "# card\n"
    state = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])  # tied
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("x")["input_ids"]
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == 1


def test_a_sharded_folder_has_its_shards_and_an_index_and_what_is_not_merged_is_copied(
    save_pico: Callable[..., Path], tmp_path: Path
) -> None:
    seed = Checkpoint(save_pico(tmp_path / "seed", 1, dtype="float32", shard_size="20KB", tie_word_embeddings=False))
    name = next(name for name in seed.shapes if ".mlp." in name)
    with ModelFolder(seed, tmp_path / "out") as folder:
        folder.put(name, torch.zeros(seed.shapes[name]))
    out = Checkpoint(tmp_path / "out")
    assert len(out.files) > 2 and [path.name for path in out.files] == [path.name for path in seed.files]
    assert not out.tensor(name).any()
    assert all(torch.equal(out.tensor(one), seed.tensor(one)) for one in seed.shapes if one != name)
    index, given = (json.loads((f / "model.safetensors.index.json").read_text()) for f in (out.folder, seed.folder))
    assert index["weight_map"] == given["weight_map"]
    with safe_open(out.files[0], framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_programs_are_given_the_largest_parameters_first(mixed: dict[str, Path], tmp_path: Path) -> None:
    opened = {name: Checkpoint(folder) for name, folder in mixed.items()}
    shapes = write_bundles(opened.pop("seed"), opened, "all", tmp_path)["full"].shapes
    sizes = [math.prod(shape) for shape in shapes.values()]
    assert sizes == sorted(sizes, reverse=True) and next(iter(shapes)) == "model.embed_tokens.weight"
    gates = [name for name in shapes if "gate_proj" in name]
    assert gates == sorted(gates) and len(gates) > 1  # of the same size as they come in the file


def test_a_program_that_fails_half_way_leaves_no_folder(pico: Any, tmp_path: Path) -> None:
    seed = Checkpoint(pico.seed)
    experts = {name: Checkpoint(folder) for name, folder in pico.experts.items()}
    source = HALF.replace("device):", "device, layer):\n    assert layer.index == 0")
    with Sandbox(write_bundles(seed, experts, "mlp", tmp_path), 60.0, 2.0) as sandbox:
        with ModelFolder(seed, tmp_path / "out") as folder:
            record = merge_into(folder, "a-1", source, seed, sandbox)
            assert record.verdict.reason == "exception" and "layers.1" in record.verdict.detail
            folder.discard()
        with pytest.raises(CheckpointError, match="exists already"):
            ModelFolder(seed, pico.seed)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_what_the_target_cannot_take_ends_the_program_and_is_told(pico: Any, tmp_path: Path) -> None:
    class Full:
        def put(self, name: str, tensor: torch.Tensor) -> None:
            raise StoreError("no room")

    seed = Checkpoint(pico.seed)
    experts = {name: Checkpoint(folder) for name, folder in pico.experts.items()}
    with Sandbox(write_bundles(seed, experts, "mlp", tmp_path), 60.0, 2.0) as sandbox:
        with pytest.raises(StoreError, match="no room"):
            merge_into(Full(), "a-1", HALF, seed, sandbox)
        assert merge("a-1", HALF, seed, sandbox)[0].verdict.accepted  # the worker lives


def test_a_slow_target_is_no_fault_of_the_program(pico: Any, tmp_path: Path) -> None:
    import time

    class Slow:
        def put(self, name: str, tensor: torch.Tensor) -> None:
            time.sleep(0.5)

    seed = Checkpoint(pico.seed)
    experts = {name: Checkpoint(folder) for name, folder in pico.experts.items()}
    with Sandbox(write_bundles(seed, experts, "mlp", tmp_path), 60.0, 2.0) as sandbox:
        assert merge("a-1", HALF, seed, sandbox)[0].verdict.accepted
        sandbox.seconds = 1.5
        began = time.monotonic()
        assert merge_into(Slow(), "a-1", HALF, seed, sandbox).verdict.accepted
        assert time.monotonic() - began > sandbox.seconds


def test_the_scratch_file_of_a_merge_is_what_safetensors_reads(pico: Any, tmp_path: Path) -> None:
    seed = Checkpoint(pico.seed)
    experts = {name: Checkpoint(folder) for name, folder in pico.experts.items()}
    with Sandbox(write_bundles(seed, experts, "mlp", tmp_path), 60.0, 2.0) as sandbox:
        _, kept = merge("a-1", HALF, seed, sandbox)
        with TensorFile(tmp_path / "merged.safetensors", merged_specs(seed, "mlp")) as file:
            merge_into(file, "a-1", HALF, seed, sandbox)
    read = load_file(tmp_path / "merged.safetensors")
    assert set(read) == set(kept) and all(torch.equal(read[name], tensor) for name, tensor in kept.items())


def test_a_written_file_holds_any_mix_in_any_order_and_nothing_is_left_of_one_that_failed(tmp_path: Path) -> None:
    tensors = {
        "b": torch.arange(5, dtype=torch.int8), "a": torch.randn(3, 2).bfloat16(), "d": torch.tensor(2.5),
        "c": torch.randn(4, dtype=torch.float64), "empty": torch.empty(0, 3),
    }  # fmt: skip
    names = {torch.int8: "I8", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}
    specs = {name: Spec(names[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}
    with TensorFile(tmp_path / "f.safetensors", specs, {"format": "pt"}) as file:
        for name in ("d", "a", "empty", "c", "b"):
            file.put(name, tensors[name])
    read = load_file(tmp_path / "f.safetensors")
    pieces = read_header(tmp_path / "f.safetensors").pieces
    file_read = MappedFile(tmp_path / "f.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor) and torch.equal(file_read.tensor(pieces[name]), tensor)
    with pytest.raises(RuntimeError), TensorFile(tmp_path / "g.safetensors", specs):
        raise RuntimeError
    assert not (tmp_path / "g.safetensors").exists()


def test_a_header_that_lies_is_refused(pico: Any, tmp_path: Path) -> None:
    path = Path(shutil.copy(pico.seed / "model.safetensors", tmp_path))
    piece = next(iter(read_header(path).pieces.values()))
    for change in ({"begin": path.stat().st_size}, {"begin": -8}, {"shape": (10**9,)}, {"dtype": "F4"}):
        with pytest.raises(ValueError, match=r"holds a tensor of dtype|does not describe"):
            MappedFile(path).tensor(piece._replace(**change))
    path.write_bytes((10**12).to_bytes(8, "little"))
    with pytest.raises(ValueError, match="longer than the file"):
        read_header(path)


@pytest.mark.parametrize("dtype", _FLOATS)
def test_what_is_not_finite_is_found_wherever_it_stands(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    values = torch.tensor([0.0, -0.0, 1.0, -1.0, largest, -largest], dtype=dtype).repeat(20000)
    assert finite(values) and finite(values[:0]) and finite(values[:1].reshape(()))
    for bad in (float("inf"), -float("inf"), float("nan"), -float("nan")):
        for place in (0, 70001, len(values) - 1):
            changed = values.clone()
            changed[place] = bad
            assert not finite(changed)


def test_what_is_done_behind_is_done_in_order_and_tells_its_fault() -> None:
    done: list[int] = []
    behind = Behind(2)
    for number in range(20):
        behind.do(lambda n=number: done.append(n))  # type: ignore[misc]
    behind.finish()
    assert done == list(range(20))

    def fail() -> None:
        raise OSError("full")

    behind = Behind(2)
    behind.do(fail)
    with pytest.raises(OSError, match="full"):
        behind.finish()
    behind.stop()


def test_memory_is_used_again_in_turns_and_grows() -> None:
    buffers = Buffers(2)
    one, two = buffers.take(8), buffers.take(8)
    one[:], two[:] = b"1" * 8, b"2" * 8
    assert bytes(one) == b"1" * 8
    three = buffers.take(4)
    three[:] = b"3" * 4
    assert bytes(one) == b"3333" + b"1" * 4 and bytes(two) == b"2" * 8
    larger = buffers.take(100)
    assert len(larger) == 100 and bytes(two) == b"2" * 8


def test_memory_that_is_much_too_big_is_given_back_and_not_under_the_one_who_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("selfdev_core.tensors.written._KEPT", 10)
    buffers = Buffers(1)
    big = buffers.take(1000)
    big[:] = b"1" * 1000
    assert len(buffers.take(500)) == 500 and len(buffers._held[0]) == 1000
    big[:] = b"1" * 1000
    buffers.take(499)
    assert len(buffers._held[0]) == 499 and bytes(big) == b"1" * 1000
    buffers.take(4)
    buffers.take(2)
    assert len(buffers._held[0]) == 4


def test_what_is_behind_can_be_waited_for_also_after_a_fault() -> None:
    done: list[int] = []

    def slowly(number: int) -> None:
        time.sleep(0.02)
        done.append(number)

    behind = Behind(2)
    for number in (1, 2, 3):
        behind.do(lambda number=number: slowly(number))
    behind.drain()
    assert done == [1, 2, 3]
    behind.do(lambda: 1 / 0)
    behind.drain()
    with pytest.raises(ZeroDivisionError):
        behind.finish()


def test_long_tensors_come_out_whole_though_there_is_memory_for_one_only(
    save_pico: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every result and every merged tensor counts as long here, and who takes the merged ones is slower than who makes them."""

    class Slow(dict[str, torch.Tensor]):
        def put(self, name: str, tensor: torch.Tensor) -> None:
            time.sleep(0.02)
            self[name] = tensor.clone()

    def watched(self: Received, size: int) -> memoryview:
        read.append(size)
        return memory(self, size)

    read: list[int] = []
    memory = Received._memory
    seed = Checkpoint(save_pico(tmp_path / "seed", 1))
    experts = {"one": Checkpoint(save_pico(tmp_path / "one", 2)), "two": Checkpoint(save_pico(tmp_path / "two", 3))}
    with Sandbox(write_bundles(seed, experts, "all", tmp_path), 60.0, 2.0) as sandbox:
        record, in_turns = merge("a-1", HALF, seed, sandbox)
        monkeypatch.setattr("selfdev_core.merging.merge._LONG", 0)
        monkeypatch.setattr("selfdev_core.sandbox.wire._LONG", 1)
        monkeypatch.setattr("selfdev_core.sandbox.client._PIECE_BYTES", 16)
        monkeypatch.setattr(Received, "_memory", watched)
        slow = Slow()
        assert merge_into(slow, "a-1", HALF, seed, sandbox) == record and record.verdict.accepted
    assert set(slow) == set(in_turns) and all(torch.equal(slow[name], tensor) for name, tensor in in_turns.items())
    assert len(read) == len(slow)


@pytest.mark.parametrize(("result", "told"), [("float('nan')", "returns NaN"), ("3e38", "seed \\+ result overflows")])
def test_a_result_that_cannot_be_added_to_the_last_parameter_is_told(
    pico: Any, tmp_path: Path, result: str, told: str
) -> None:
    """Nothing comes after it that could bring the fault to light. On the probes the program does what it should."""
    seed = Checkpoint(pico.seed)
    experts = {name: Checkpoint(folder) for name, folder in pico.experts.items()}
    bundles = write_bundles(seed, experts, "mlp", tmp_path)
    last = list(read_bundle(bundles["full"].path)[0].shapes)[-1]
    source = (
        "import torch\n\ndef merge_models(m, device, layer):\n    first = next(iter(m.values()))\n"
        f"    return torch.full_like(first, {result} if layer.name == {last!r} else 0.0)\n"
    )
    big = Checkpoint(shutil.copytree(pico.seed, tmp_path / "big"))
    weights = load_file(big.folder / "model.safetensors")
    weights[last] = torch.full_like(weights[last], 3e38)
    save_file(weights, big.folder / "model.safetensors", {"format": "pt"})
    with Sandbox(bundles, 60.0, 2.0) as sandbox:
        record = merge_into(None, "a-1", source, Checkpoint(big.folder), sandbox)
    assert record.verdict.reason == "not-finite" and re.search(f"{told}.*{re.escape(last)}", record.verdict.detail)
