"""DPO with TRL on a real checkpoint: full fine-tune and LoRA, from a folder to a folder."""

from __future__ import annotations

import json
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.preference.adapters import shorten_adapter
from selfdev_core.preference.dpo import Training
from selfdev_core.training import DpoConfig
from tests.conftest import Family
from tests.preference.conftest import LORA, SEED, SHORT, logits, prompt, train


def test_an_update_prefers_the_chosen_and_saves_a_whole_checkpoint(tmp_path: Path) -> None:
    training = train(tmp_path / "new", SHORT | {"learning_rate": 1e-4})
    assert len(training.losses) == len(training.reward_margins) == 6
    assert training.reward_margins[-1] > training.reward_margins[0]
    before, after = Checkpoint(SEED), Checkpoint(tmp_path / "new")
    assert after.shapes == before.shapes
    changed = [name for name in after.shapes if not after.tensor(name).equal(before.tensor(name).float())]
    assert changed


def test_one_process_that_sees_several_gpus_trains_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers counts GPUs without looking for them, so that a CPU can play a machine with two."""
    import torch
    import trl

    config = trl.DPOConfig
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(trl, "DPOConfig", lambda **given: config(**given | {"use_cpu": False}))
    assert len(train(tmp_path / "new", SHORT).losses) == 6


@pytest.mark.parametrize("fails", [False, True])
def test_the_gpu_is_given_up_before_training_and_after_it(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def trains(*_: Any) -> Training:
        done.append("train")
        if fails:
            raise RuntimeError("out of memory")
        return Training([], [])

    monkeypatch.setattr("selfdev_core.workers.models.release", lambda: done.append("release"))
    monkeypatch.setattr("selfdev_core.preference.dpo.train", trains)
    with pytest.raises(RuntimeError) if fails else nullcontext():
        train(tmp_path / "new", SHORT)
    assert done == ["release", "train", "release"]


def test_what_refers_to_itself_is_gone_before_the_gpu_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from selfdev_core.workers import models

    class Trainer:
        def __init__(self) -> None:
            self.model = self

    left = weakref.ref(Trainer())
    there: list[bool] = []
    monkeypatch.setattr(models, "_loaded", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: there.append(left() is not None))
    models.release()
    assert there == [False]


def test_a_lora_update_is_an_adapter_that_names_no_path(adapter: Path) -> None:
    names = {path.name for path in adapter.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "config.json", "tokenizer.json"} <= names
    assert "model.safetensors" not in names and not [name for name in names if name.endswith((".md", ".bin"))]
    assert str(SEED) not in (adapter / "adapter_config.json").read_text()
    saved = Checkpoint(adapter)
    assert all("lora_" in name for name in saved.shapes) and set(saved.dtypes.values()) == {"F32"}
    assert not logits(adapter).equal(logits(None))


def test_a_shortened_lora_update_lies_on_the_line_between(adapter: Path, tmp_path: Path) -> None:
    """First with the seed at the other end, then with an adapter there whose sum with the other has no higher rank."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def seed() -> Any:
        return AutoModelForCausalLM.from_pretrained(SEED, dtype=torch.float32)

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        model = PeftModel.from_pretrained(seed(), folder).merge_and_unload()
        return {name: tensor.detach() for name, tensor in model.named_parameters()}

    before = {name: tensor.detach() for name, tensor in seed().named_parameters()}
    whole = weights(adapter)
    shorten_adapter("", str(adapter), 0.25, str(tmp_path / "quarter"))
    for name, tensor in weights(tmp_path / "quarter").items():
        torch.testing.assert_close(tensor, before[name].lerp(whole[name], 0.25), rtol=1e-5, atol=1e-7)
    shorten_adapter(str(tmp_path / "quarter"), str(adapter), 0.5, str(tmp_path / "between"))
    for name, tensor in weights(tmp_path / "between").items():
        torch.testing.assert_close(tensor, before[name].lerp(whole[name], 0.625), rtol=1e-5, atol=1e-7)
    settings = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("quarter", "between")]
    assert settings[0] == settings[1] and settings[1]["r"] == 4


def test_a_shortened_lora_update_keeps_its_rank_and_is_the_nearest_of_that_rank(tmp_path: Path) -> None:
    """Update after update; one module is narrower than the rank."""
    import torch
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(3)
    sizes = {"q_proj": (24, 40), "o_proj": (3, 40)}

    def products(folder: Path) -> dict[str, torch.Tensor]:
        stored = load_file(folder / "adapter_model.safetensors")
        settings = json.loads((folder / "adapter_config.json").read_text())
        scale = settings["lora_alpha"] / settings["r"]
        assert settings["r"] == 4 and all(4 in tensor.shape for tensor in stored.values())
        return {name: scale * stored[f"{name}.lora_B.weight"] @ stored[f"{name}.lora_A.weight"] for name in sizes}

    def write(folder: Path, alpha: int) -> Path:
        folder.mkdir()
        tensors = {}
        for name, (rows, columns) in sizes.items():
            tensors[f"{name}.lora_A.weight"] = torch.randn(4, columns, generator=generator)
            tensors[f"{name}.lora_B.weight"] = torch.randn(rows, 4, generator=generator)
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": alpha}))
        return folder

    before = write(tmp_path / "first", 4)
    for number in range(3):
        after, out = write(tmp_path / f"after{number}", 8), tmp_path / f"out{number}"
        shorten_adapter(str(before), str(after), 0.25, str(out))
        old, new, made = products(before), products(after), products(out)
        for name in sizes:
            wanted = old[name].lerp(new[name], 0.25)
            least = torch.linalg.svdvals(wanted)[4:].square().sum().sqrt()
            error = torch.linalg.matrix_norm(made[name] - wanted)
            torch.testing.assert_close(error, least, rtol=1e-4, atol=1e-4)
        before = out


@pytest.mark.slow
def test_a_second_lora_update_goes_on_from_the_first(adapter: Path, tmp_path: Path) -> None:
    training = train(tmp_path / "second", LORA, adapter)
    assert abs(training.reward_margins[0]) < 1e-3  # the reference is the factory as it was, with its adapter
    assert training.reward_margins[-1] > 0.0
    first, second = Checkpoint(adapter), Checkpoint(tmp_path / "second")
    assert first.shapes == second.shapes and first.sha256() != second.sha256()


@pytest.mark.slow
def test_the_same_update_twice_gives_the_same_checkpoint(adapter: Path, tmp_path: Path) -> None:
    for name, settings in {"full": SHORT, "lora": LORA}.items():
        train(tmp_path / f"{name}-a", settings)
        train(tmp_path / f"{name}-b", settings)
        assert Checkpoint(tmp_path / f"{name}-a").sha256() == Checkpoint(tmp_path / f"{name}-b").sha256()
    assert Checkpoint(tmp_path / "lora-a").sha256() == Checkpoint(adapter).sha256()


@pytest.mark.slow
def test_small_batches_short_floats_and_activations_made_twice_train_too(adapter: Path, tmp_path: Path) -> None:
    import torch

    whole = Checkpoint(adapter)
    for name, change, close in (
        ("micro", {"micro_batch": 2}, 2e-3),
        ("twice", {"gradient_checkpointing": True}, 2e-4),
        ("short", {"precision": "bfloat16", "gradient_checkpointing": True}, None),
    ):
        training = train(tmp_path / name, LORA | change)
        assert training.reward_margins[-1] > training.reward_margins[0], name
        made = Checkpoint(tmp_path / name)
        assert set(made.dtypes.values()) == {"F32"}
        for tensor in made.shapes if close else ():
            torch.testing.assert_close(made.tensor(tensor), whole.tensor(tensor), rtol=0.05, atol=close)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [LORA, SHORT | {"learning_rate": 1e-4}], ids=["lora", "full"])
def test_two_processes_train_as_one_does(settings: dict[str, Any], tmp_path: Path) -> None:
    import torch

    alone = train(tmp_path / "one", settings)
    together = train(tmp_path / "two", settings | {"processes": 2})
    assert together.losses == pytest.approx(alone.losses, abs=0.02)
    one, two = Checkpoint(tmp_path / "one"), Checkpoint(tmp_path / "two")
    assert one.shapes == two.shapes
    for name in one.shapes:
        torch.testing.assert_close(two.tensor(name), one.tensor(name), rtol=0.05, atol=3e-3)


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of processes × micro_batch, got 16 and 12"):
        DpoConfig(processes=4, micro_batch=3)


def test_an_adapter_is_written_out_for_an_engine_that_swaps_weights(adapter: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from selfdev_core.engines.vllm.adapter import write_with_adapter

    write_with_adapter(SEED, adapter, tmp_path / "whole.safetensors", "float32")
    whole = load_file(tmp_path / "whole.safetensors")
    seed = Checkpoint(SEED)
    assert whole and all(not torch.equal(tensor, seed.tensor(name).float()) for name, tensor in whole.items())
    model = AutoModelForCausalLM.from_pretrained(SEED, dtype=torch.float32).eval()
    model.load_state_dict(whole, strict=False)
    with torch.inference_mode():
        got = model(**prompt()).logits
    torch.testing.assert_close(got, logits(adapter), rtol=1e-4, atol=1e-4)
    write_with_adapter(SEED, adapter, tmp_path / "half.safetensors", "bfloat16")
    half = load_file(tmp_path / "half.safetensors")
    assert all(torch.equal(half[name], tensor.to(torch.bfloat16)) for name, tensor in whole.items())


def test_an_adapter_of_another_model_is_no_weights_to_swap(adapter: Path, pico: Family, tmp_path: Path) -> None:
    from selfdev_core.engines.vllm.adapter import write_with_adapter
    from selfdev_core.errors import EngineError

    with pytest.raises(EngineError, match=r"no parameter of|another shape than in"):
        write_with_adapter(pico.seed, adapter, tmp_path / "whole.safetensors", "float32")
    assert not list(tmp_path.iterdir())
