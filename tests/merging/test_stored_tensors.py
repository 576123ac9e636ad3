"""What a checkpoint stores besides its parameters: a tied head once more, tables that are computed anew, masks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfdev_core.errors import CheckpointError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.fit import check_fit, compare
from selfdev_core.merging.merge import merge, merge_into, write_bundles
from selfdev_core.merging.saved import ModelFolder, save_merged
from selfdev_core.merging.scope import aliases, merged_names, ties
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.workers import models
from tests.conftest import Family

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
INV_FREQ = "model.layers.0.self_attn.rotary_emb.inv_freq"
HALF = "def merge_models(m, device):\n    return 0.5 * sum(m.values())\n"


def _store(folder: Path, **more: torch.Tensor | None) -> None:
    """Tensors stored besides the folder's own; None takes one away. `__` stands for a dot."""
    weights = load_file(folder / "model.safetensors")
    for name, tensor in more.items():
        weights.pop(name.replace("__", "."), None)
        if tensor is not None:
            weights[name.replace("__", ".")] = tensor.clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _configure(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture
def set_(pico: Family, tmp_path: Path) -> dict[str, Path]:
    """A tied seed that stores its head, too, and two experts: one as the seed, one saved without the head."""
    folders = {"seed": pico.seed, **pico.experts}
    made = {name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in folders.items()}
    for name in ("seed", "alpha"):
        _store(made[name], lm_head__weight=load_file(made[name] / "model.safetensors")[EMBEDDING])
    return made


@pytest.fixture
def forget() -> Iterator[None]:
    models._loaded.clear()
    yield
    models._loaded.clear()


def _opened(folders: dict[str, Path]) -> tuple[Checkpoint, dict[str, Checkpoint]]:
    opened = {name: Checkpoint(folder) for name, folder in folders.items()}
    return opened.pop("seed"), opened


def test_a_tied_head_that_is_stored_twice_is_merged_once_and_saved_twice(
    set_: dict[str, Path], tmp_path: Path, forget: None
) -> None:
    seed, experts = _opened(set_)
    assert check_fit(seed, experts, "all") == ()
    assert aliases(seed) == {HEAD: EMBEDDING} and HEAD not in merged_names(seed, "all")
    (tmp_path / "bundles").mkdir()
    with Sandbox(write_bundles(seed, experts, "all", tmp_path / "bundles"), 60.0, 2.0) as sandbox:
        _, kept = merge("a-1", HALF, seed, sandbox)
        with ModelFolder(seed, tmp_path / "out") as folder:
            assert merge_into(folder, "a-1", HALF, seed, sandbox).verdict.accepted
    out = Checkpoint(tmp_path / "out")
    assert set(kept) == set(seed.shapes) - {HEAD} and not torch.equal(out.tensor(HEAD), seed.tensor(HEAD))
    assert torch.equal(out.tensor(HEAD), kept[EMBEDDING]) and torch.equal(out.tensor(EMBEDDING), kept[EMBEDDING])
    save_file(kept, tmp_path / "merged.safetensors")
    loaded, saved = models.load(seed.folder), models.load(out.folder)
    plain = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    models.swap(loaded, tmp_path / "merged.safetensors")
    for name, tensor in saved.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    models.swap(loaded, None)
    assert all(torch.equal(plain[name], tensor) for name, tensor in loaded.model.state_dict().items())


def test_a_worker_restores_the_seed_whatever_names_one_memory_has(
    set_: dict[str, Path], tmp_path: Path, forget: None
) -> None:
    """The embedding and the head in one file, one after the other, and in turns."""
    loaded = models.load(set_["seed"])
    plain = loaded.model.state_dict()[EMBEDDING].clone()
    for number, names in enumerate([(EMBEDDING,), (EMBEDDING, HEAD), (HEAD,), (EMBEDDING, HEAD)]):
        weights = {name: torch.full_like(plain, 1.0 + number) for name in names}
        save_file(weights, tmp_path / "merged.safetensors")
        models.swap(loaded, tmp_path / "merged.safetensors")
        assert torch.equal(loaded.model.state_dict()[HEAD], weights[names[0]])
    models.swap(loaded, None)
    assert torch.equal(loaded.model.state_dict()[EMBEDDING], plain)


def test_a_tied_head_that_differs_from_its_embedding_is_refused_under_scope_all(set_: dict[str, Path]) -> None:
    _store(set_["alpha"], lm_head__weight=torch.ones(258, 32, dtype=torch.bfloat16))
    seed, experts = _opened(set_)
    with pytest.raises(CheckpointError, match=r"alpha \(.*alpha\): lm_head.weight and .* differ though .* set that to"):
        check_fit(seed, experts, "all")
    check_fit(seed, experts, "mlp")
    _configure(set_["alpha"], tie_word_embeddings=False)
    assert any("tie_word_embeddings is False" in line for line in check_fit(*_opened(set_), "all"))


def test_an_untied_head_is_a_parameter_of_its_own(set_: dict[str, Path]) -> None:
    _configure(set_["seed"], tie_word_embeddings=False)
    assert HEAD in merged_names(Checkpoint(set_["seed"]), "all")
    # Where config.json does not say, the architecture does.
    assert (
        ties({"model_type": "gemma"}) and not ties({"model_type": "llama"}) and not ties({"model_type": "unheard-of"})
    )
    assert ties({"text_config": {"tie_word_embeddings": True}})


def test_tables_and_masks_are_no_parameters(set_: dict[str, Path], tmp_path: Path, forget: None) -> None:
    """`inv_freq` of old checkpoints, positions and masks: in the seed alone, in both, or in an expert alone."""
    tables = {
        INV_FREQ.replace(".", "__"): torch.tensor([1.0, float("inf")]),
        "model__position_ids": torch.arange(4),
        "model__mask": torch.ones(2, dtype=torch.bool),
    }
    _store(set_["seed"], **tables)
    _store(set_["alpha"], **{INV_FREQ.replace(".", "__"): torch.ones(2)})
    seed, experts = _opened(set_)
    found = compare(seed, experts, "all")
    assert found.faults == () and "not merged, the seed's are kept" in "\n".join(found.warnings)
    check_fit(seed, experts, "all")
    names = merged_names(seed, "all")
    assert names == [name for name in seed.shapes if name.endswith("weight") and name != HEAD]
    save_merged(seed, {name: seed.tensor(name) * 2 for name in names}, tmp_path / "out")
    save_file({name: seed.tensor(name) * 2 for name in names}, tmp_path / "merged.safetensors")
    models.swap(models.load(seed.folder), tmp_path / "merged.safetensors")
    assert torch.equal(Checkpoint(tmp_path / "out").tensor(INV_FREQ), seed.tensor(INV_FREQ))


def test_quantised_seeds_are_refused_by_their_weights_or_their_config(set_: dict[str, Path]) -> None:
    _store(set_["seed"], model__layers__0__mlp__up_proj__qweight=torch.ones(4, 4, dtype=torch.int32))
    for scope in ("mlp", "all"):
        faults = "\n".join(compare(*_opened(set_), scope).faults)  # type: ignore[arg-type]
        assert "up_proj.qweight is stored as I32; give the model in bf16" in faults
    _configure(set_["seed"], quantization_config={"bits": 4})
    assert "models.seed" in (fault := compare(*_opened(set_), "mlp").faults[0]) and "is quantised" in fault


@pytest.mark.parametrize("name", ["model-00001-of-00001.safetensors", "weights.safetensors"])
def test_a_model_in_one_shard_is_saved_so_that_transformers_finds_it(pico: Family, tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    folder = Path(shutil.copytree(pico.seed, tmp_path / "seed"))
    (folder / "model.safetensors").rename(folder / name)
    weights = dict.fromkeys(Checkpoint(folder).shapes, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    seed = Checkpoint(folder)
    save_merged(seed, {"model.norm.weight": seed.tensor("model.norm.weight") * 3}, tmp_path / "out")
    state = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert torch.equal(state["model.norm.weight"], seed.tensor("model.norm.weight") * 3)
    assert torch.equal(state[EMBEDDING], seed.tensor(EMBEDDING))


@pytest.mark.parametrize("where", ["_copy_rest", "_index"])
def test_an_interrupted_save_leaves_nothing(
    save_pico: Callable[..., Path], tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the folder is finished: no hidden folder, no open file."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    seed = Checkpoint(save_pico(tmp_path / "seed", 1, shard_size="20KB"))
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(f"selfdev_core.merging.saved.{where}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_merged(seed, {}, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["seed"] and len(os.listdir("/proc/self/fd")) == before


def test_a_save_removes_what_a_killed_one_has_left(pico: Family, tmp_path: Path) -> None:
    """Also one of its own process number, as two containers have."""
    for process in (os.getpid(), 1):
        left = tmp_path / f".out.partial-{process}"
        left.mkdir()
        (left / "model.safetensors").touch()
    save_merged(Checkpoint(pico.seed), {}, tmp_path / "out")
    (tmp_path / "plain").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "plain"]
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_saved_model_is_on_disk_before_it_has_its_name(
    pico: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, bool]] = []
    sync = os.fsync

    def noted(fd: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{fd}").readlink().name, (tmp_path / "out").exists()))
        sync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    save_merged(Checkpoint(pico.seed), {}, tmp_path / "out")
    before = {name for name, there in flushed if not there}
    assert {path.name for path in (tmp_path / "out").iterdir()} | {"out"} == before
    assert flushed[-1] == (tmp_path.name, True)


def test_probes_of_stacked_experts_are_small_in_every_dimension(set_: dict[str, Path], tmp_path: Path) -> None:
    stacked = {"model__layers__0__mlp__experts": (3, 50, 60), "model__layers__0__mlp__deeper": (2, 3, 50, 60)}
    for number, folder in enumerate(set_.values()):
        _store(folder, **{name: torch.full(shape, float(number)) for name, shape in stacked.items()})
    seed, experts = _opened(set_)
    (tmp_path / "bundles").mkdir()
    shapes = write_bundles(seed, experts, "mlp", tmp_path / "bundles")["probes"].shapes
    assert shapes["model.layers.0.mlp.experts"] == (1, 24, 40) and shapes["model.layers.0.mlp.deeper"] == (1, 1, 24, 40)
    assert shapes["model.layers.0.mlp.up_proj.weight"] == (24, 32)
