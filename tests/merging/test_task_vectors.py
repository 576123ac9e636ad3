"""Task vectors are made when a program comes to them, from mapped files, and what it does to them is seen."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.merge import write_bundles
from selfdev_core.sandbox import vectors as sandbox_vectors
from selfdev_core.sandbox.bundle import describe_bundle, read_bundle
from selfdev_core.sandbox.vectors import Sources
from selfdev_core.tensors import mapped
from selfdev_core.tensors.mapped import MappedFile, read_header


@pytest.mark.parametrize("small", [True, False])
def test_task_vectors_of_mixed_formats_are_expert_minus_seed_to_the_last_bit(
    mixed: dict[str, Path], tmp_path: Path, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:
        monkeypatch.setattr(sandbox_vectors, "SMALL", 0)
    seed, *experts = (Checkpoint(folder) for folder in mixed.values())
    names = list(mixed)[1:]
    described = write_bundles(seed, dict(zip(names, experts, strict=True)), "all", tmp_path)["full"]
    bundle, vectors = read_bundle(described.path)
    assert (bundle.experts, bundle.shapes, bundle.blocks) == (tuple(names), seed.shapes, 2)
    assert {expert.dtypes["model.norm.weight"] for expert in experts} == {"F16", "F32", "F64"}
    for name, made in vectors.items():
        for label, expert in zip(names, experts, strict=True):
            assert torch.equal(made[label], expert.tensor(name).float() - seed.tensor(name).float()), (name, label)
        assert vectors.unchanged(name, made)
        made["single"].view(-1)[-1] += 1
        assert not vectors.unchanged(name, made)


def test_a_tensor_larger_than_a_block_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block by block, its pages read ahead and given back."""
    monkeypatch.setattr(sandbox_vectors, "SMALL", 0)
    monkeypatch.setattr(sandbox_vectors, "_BLOCK", 1000)
    monkeypatch.setattr(mapped, "_BIG", 1)
    base, other = torch.randn(3511, 23), torch.randn(3511, 23)
    save_file({"w": base.half()}, tmp_path / "a.safetensors")
    save_file({"w": other.bfloat16()}, tmp_path / "b.safetensors")
    a, b = (read_header(tmp_path / f"{name}.safetensors").pieces["w"] for name in "ab")
    _, vectors = read_bundle(describe_bundle(tmp_path / "f.json", {"w": Sources(a, {"x": b})}, ("x",), 1).path)
    assert not vectors._ready and base.numel() % 1000
    for _ in range(2):
        vectors.expect("w")
        made = vectors["w"]
        assert torch.equal(made["x"], other.bfloat16().float() - base.half().float()) and vectors.unchanged("w", made)
        for place in (0, 999, 1000, 40_000, base.numel() - 1):
            changed = made["x"].clone()
            changed.view(-1)[place] += 1
            assert not vectors.unchanged("w", {"x": changed}, touched=True), place
            assert vectors.unchanged("w", {"x": changed}) is (place % 16_000 >= 1000), place
        assert vectors.unchanged("w", made, touched=True) and not vectors.unchanged("w", {"x": made["x"] * 2})
        assert _resident(a.path) and _resident(b.path)
        vectors.forget("w")
        assert not _resident(a.path) and not _resident(b.path)


def test_small_tensors_are_given_back_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the many small experts of a block are; what lies between and was not asked for stays."""
    monkeypatch.setattr(mapped, "_BIG", 8 << 14)
    save_file({f"{number:03}": torch.full((4096,), float(number)) for number in range(64)}, tmp_path / "a.safetensors")
    pieces = read_header(tmp_path / "a.safetensors").pieces
    file = MappedFile(tmp_path / "a.safetensors")
    for name, piece in pieces.items():
        assert bool((file.tensor(piece) == float(name)).all())  # every page is looked at
    whole = _resident(file.path)
    for number in (1, 0, 2, 3, 20, 21, 22):
        file.forget(pieces[f"{number:03}"])
    assert _resident(file.path) == whole >= 64 << 14
    file.forget(pieces["023"])
    assert whole - (8 << 14) - 4 * mmap.PAGESIZE <= _resident(file.path) <= whole - (8 << 14) + 4 * mmap.PAGESIZE
    for number in range(24, 64):
        file.forget(pieces[f"{number:03}"])
    assert _resident(file.path) <= (16 << 14) + 4 * mmap.PAGESIZE
    assert all(file.tensor(piece)[0] == float(name) for name, piece in pieces.items())


def _resident(path: Path) -> int:
    """Bytes of a file that this process has mapped and in memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(f" {path}")
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


def test_entries_that_changed_places_are_found_where_torch_counted_an_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum of a block does not find them; it finds what else changes there, by whatever way."""
    from selfdev_core.sandbox.child import Work, _unchanged, _versions

    monkeypatch.setattr(sandbox_vectors, "SMALL", 0)
    save_file({"w": torch.zeros(64, 4)}, tmp_path / "a.safetensors")
    save_file({"w": torch.randn(64, 4)}, tmp_path / "b.safetensors")
    a, b = (read_header(tmp_path / f"{name}.safetensors").pieces["w"] for name in "ab")
    bundle, vectors = read_bundle(describe_bundle(tmp_path / "f.json", {"w": Sources(a, {"x": b})}, ("x",), 1).path)
    work = Work("", bundle, vectors, "real")

    def after(change: Callable[[torch.Tensor], object]) -> bool:
        given = dict(vectors["w"])
        versions = _versions(given)
        change(given["x"])
        return _unchanged(work, "w", given, versions)

    assert after(lambda x: x.sum()) and after(lambda x: x.mul_(1.0)) and after(lambda x: x.view(-1)[:2].add_(0.0))
    assert not after(lambda x: x.copy_(x.flip(0))) and not after(lambda x: x.view(-1)[3].zero_())
    assert not after(lambda x: x.data.mul_(2.0)) and not after(lambda x: x.numpy().__setitem__((5, 1), 9.0))
    with torch.inference_mode():
        assert after(lambda x: x.sum()) and not after(lambda x: x.copy_(x.flip(0)))
    monkeypatch.setattr(sandbox_vectors, "_BLOCK", 16)  # of sixteen the first one is summed up
    assert not after(lambda x: x.data.mul_(2.0)) and not after(lambda x: x[4:].zero_())
    assert after(
        lambda x: x.data[4:].zero_()
    )  # past torch's counter and outside that block: not seen, as `vectors` says
