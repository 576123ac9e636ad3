"""DPO with TRL on a real checkpoint: full fine-tune and LoRA, from a folder to a folder, killed and gone on with."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from selfdev_core.algorithm.prompt import load_prompt
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.miniature.families import family_folder
from selfdev_core.preference.adapters import shorten_adapter
from selfdev_core.preference.dpo import Training, Update, train_factory
from selfdev_core.preference.saves import last_save, saves_of
from selfdev_core.training import DpoConfig
from tests.conftest import Family

GOOD, BAD = "\n    return 0.5 * sum(model_dict.values())", "\n    return 9.0 * sum(model_dict.values("
SEED = family_folder("arithmetic") / "seed"
SHORT = {"steps": 6, "batch_size": 4}
LORA = SHORT | {"method": "lora", "learning_rate": 2e-3, "lora_rank": 4}


def train(
    out: Path, settings: dict[str, Any], adapter: Path | str = "", saves: str = "", save_steps: int = 0
) -> Training:
    config = DpoConfig.model_validate(settings).model_dump(mode="json")
    pairs = [(GOOD.replace("0.5", f"0.{i}"), BAD.replace("9.0", f"9.{i}")) for i in range(1, 9)]
    update = Update(str(SEED), str(adapter), str(out), config, seed=0, saves=saves, save_steps=save_steps)
    return train_factory(update, load_prompt("miniature"), pairs)


def logits(adapter: Path | None) -> Any:
    """What the seed, with an adapter on it, makes of the prompt."""
    import torch

    from selfdev_core.workers.models import load

    loaded = load(SEED, adapter)
    with torch.inference_mode():
        return loaded.model(**prompt()).logits


def prompt() -> Any:
    from selfdev_core.workers.models import load

    tokenizer = load(SEED).tokenizer
    return tokenizer([load_prompt("miniature")], return_tensors="pt", return_token_type_ids=False)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lora") / "new"
    training = train(out, LORA)
    assert len(training.losses) == 6 and training.reward_margins[-1] > training.reward_margins[0]
    return out


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


def _train_with_saves(out: Path, settings: dict[str, Any], before: Path | str, saves: Path) -> None:
    train(out, settings, before, saves=str(saves), save_steps=5)


@pytest.mark.parametrize(
    "method", ["lora", pytest.param("adapter", marks=pytest.mark.slow), pytest.param("full", marks=pytest.mark.slow)]
)
def test_a_training_that_is_killed_after_its_last_step_does_none_again(
    method: str, adapter: Path, tmp_path: Path
) -> None:
    """The guard comes after the last save. Five steps end in the middle of an epoch, which has two."""
    settings = (SHORT | {"learning_rate": 1e-4} if method == "full" else LORA) | {"steps": 5}
    before, saves = adapter if method == "adapter" else "", tmp_path / "saves"
    whole = train(tmp_path / "whole", settings, before, str(saves), save_steps=2)
    assert len(whole.losses) == 5 and Path(last_save(saves) or "").name == "checkpoint-5"
    steps: list[int] = []
    seen = _steps_done(steps)
    again = train(tmp_path / "again", settings, before, str(saves), save_steps=2)
    seen.undo()
    assert steps == [] and again == whole
    assert Checkpoint(tmp_path / "again").sha256() == Checkpoint(tmp_path / "whole").sha256()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_a_killed_training_goes_on_from_its_last_save_and_ends_with_the_same_weights(
    method: str, adapter: Path, tmp_path: Path
) -> None:
    settings = (SHORT | {"learning_rate": 1e-4} if method == "full" else LORA) | {"steps": 30}
    before = adapter if method == "adapter" else ""
    whole = train(tmp_path / "whole", settings, before)
    saves = tmp_path / "saves"
    process = multiprocessing.get_context("spawn").Process(
        target=_train_with_saves, args=(tmp_path / "killed", settings, before, saves)
    )
    process.start()
    deadline = time.monotonic() + 300
    while not list(saves.glob("checkpoint-1?/trainer_state.json")):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "killed").exists()
    reached = int(Path(last_save(saves) or "").name.partition("-")[2])
    assert 10 <= reached < 30
    steps: list[int] = []
    seen = _steps_done(steps)
    again = train(tmp_path / "killed", settings, before, saves=str(saves), save_steps=5)
    seen.undo()
    assert steps == list(range(reached + 1, 31))
    assert again.losses == whole.losses and len(again.losses) == 30
    assert Checkpoint(tmp_path / "killed").sha256() == Checkpoint(tmp_path / "whole").sha256()


def _steps_done(steps: list[int]) -> pytest.MonkeyPatch:
    """Note the optimiser steps that are really done."""
    from trl import DPOTrainer

    patch, log = pytest.MonkeyPatch(), DPOTrainer.log

    def noted(self: Any, logs: dict[str, float], *rest: Any) -> None:
        if "loss" in logs:
            steps.append(self.state.global_step)
        log(self, logs, *rest)

    patch.setattr(DPOTrainer, "log", noted)
    return patch


def test_a_half_written_save_is_not_gone_on_from(tmp_path: Path) -> None:
    for step, state in ((5, '{"global_step": 5}'), (10, '{"global_step": 10}'), (15, '{"global_st'), (20, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_save(tmp_path) == str(tmp_path / "checkpoint-10")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]
    assert last_save(tmp_path / "none") is None


def test_saves_stay_when_training_fails_and_go_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    with pytest.raises(RuntimeError), saves_of("key") as saves:
        Path(saves, "kept").touch()
        with saves_of("key") as other:
            assert other == ""
        raise RuntimeError
    with saves_of("key") as saves:
        assert Path(saves, "kept").is_file()
    assert not Path(saves).exists()


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
