"""Weights are swapped in a running engine: what answers is what was put in, always and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.client import Client
from selfdev_core.engines.vllm.engine import VllmEngine
from selfdev_core.errors import EngineError
from tests.vllm.conftest import FAMILY, SEED, Merge, Told, ask

MERGES = [(a, b) for a in (0.3, 0.6, 0.9, 1.2, -1.0) for b in (0.4, 0.8)]


def test_answers_after_each_of_ten_swaps_are_those_of_an_engine_started_with_the_saved_model(
    engine: VllmEngine,
    open_engine: Callable[[EngineConfig], Told],
    config: EngineConfig,
    merge: Callable[..., Merge],
    prompts: list[str],
) -> None:
    merges = [merge(a, b) for a, b in MERGES]
    swapped = [ask(engine, SEED, one.weights, prompts) for one in merges]
    assert len({tuple(answers) for answers in swapped}) == len(merges)  # or nothing would be shown by their being equal
    for one, answers in zip(merges, swapped, strict=True):
        fresh = open_engine(config).engine
        expected = ask(fresh, one.folder, None, prompts)
        fresh.close()
        assert answers == expected


def test_the_seed_comes_back_whole(engine: VllmEngine, merge: Callable[..., Merge], prompts: list[str]) -> None:
    before = ask(engine, SEED, None, prompts)
    whole = merge(0.7, 0.7, "all")
    ask(engine, SEED, whole.weights, prompts[:4])
    after_mlp = ask(engine, SEED, merge(0.9, 0.4).weights, prompts)  # what `all` replaced beyond the MLP goes back, too
    assert ask(engine, SEED, None, prompts) == before
    assert ask(engine, merge(0.9, 0.4).folder, None, prompts) == after_mlp


def test_merging_all_parameters_reaches_the_tied_head_as_well(
    engine: VllmEngine, merge: Callable[..., Merge], prompts: list[str]
) -> None:
    whole = merge(0.7, 0.7, "all")
    assert ask(engine, SEED, whole.weights, prompts) == ask(engine, whole.folder, None, prompts)


def test_an_expert_answers_as_by_transformers(engine: VllmEngine, prompts: list[str]) -> None:
    """Two implementations in bfloat16 and float32: nearly always the same words."""
    from selfdev_core.evaluation.engine import answer

    for name in ("alpha", "beta"):
        expected = [text for text, _ in answer(str(FAMILY / name), None, prompts[:64], 36, 64)]
        found = ask(engine, FAMILY / name, None, prompts[:64])
        assert sum(a == b for a, b in zip(found, expected, strict=True)) >= 56


def test_more_questions_and_stops_than_vllm_takes_in_one_request_are_answered_all_the_same(
    engine: VllmEngine, prompts: list[str]
) -> None:
    def cut(text: str) -> str:
        return min((text.split(stop, 1)[0] for stop in stops), key=len)

    stops = tuple(f"\n#### {digit}" for digit in range(1, 8))
    many = [f"{prompt[:-3]}{' ' * (i // len(prompts))}\nA:" for i, prompt in enumerate(prompts * 6)][:1100]
    given = engine.answer(SEED, None, many, max_new_tokens=36, batch_size=2000, stop=stops)
    alone = [
        one
        for at in (0, 550)
        for one in engine.answer(SEED, None, many[at : at + 550], max_new_tokens=36, batch_size=550)
    ]
    assert [one.text for one in given] == [cut(one.text) for one in alone]
    assert sum(cut(one.text) != one.text for one in alone) > 300


def test_no_prefix_of_other_weights_is_used(
    engine: VllmEngine,
    open_engine: Callable[[EngineConfig], Told],
    config: EngineConfig,
    merge: Callable[..., Merge],
    prompts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shots = "\n\n".join(f"{prompt} 1+1=2\n#### 2" for prompt in prompts[:8])
    long = [f"{shots}\n\n{prompt}" for prompt in prompts[8:40]]
    one, other = merge(-1.0, 0.8), merge(1.2, 0.4)
    fresh = open_engine(config).engine
    expected = ask(fresh, other.folder, None, long)
    ask(engine, SEED, one.weights, long)
    assert ask(engine, SEED, other.weights, long) == expected
    # The same without our care, so that the line above is known to show something.
    monkeypatch.setattr(Client, "forget_prefixes", lambda self: None)
    monkeypatch.setattr("selfdev_core.engines.vllm.weights.Held.salt", "always the same")
    ask(fresh, SEED, one.weights, long)
    assert ask(fresh, SEED, other.weights, long) != expected
    fresh.close()


def test_an_engine_that_does_not_hold_what_it_was_given_is_found_out_and_replaced(
    open_engine: Callable[[EngineConfig], Told],
    config: EngineConfig,
    merge: Callable[..., Merge],
    prompts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = open_engine(config)
    seed = ask(told.engine, SEED, None, prompts[:8])
    weights = merge(0.6, 0.4).weights
    with monkeypatch.context() as patch:
        patch.setattr(Client, "load", lambda self, folder: None)
        with pytest.raises(
            EngineError, match=f"does not hold the merged weights {weights.stem}: block 0 mlp and 3 more"
        ):
            ask(told.engine, SEED, weights, prompts[:8])
    assert ask(told.engine, SEED, weights, prompts[:8]) != seed
    assert told.retries == []  # wrong weights are no accident: nobody tried again in silence
    told.engine.close()


def test_one_changed_value_is_found(engine: VllmEngine, merge: Callable[..., Merge], tmp_path: Path) -> None:
    from selfdev_core.engines.vllm.proof import faults, total_of

    weights = merge(0.6, 0.4).weights
    ask(engine, SEED, weights, ["Q:"])
    (slot,) = engine._slots
    tensors: dict[str, Any] = load_file(weights)
    name = "model.layers.2.mlp.up_proj.weight"
    tensors[name][5, 7] += 0.01 + tensors[name][5, 7].abs()
    save_file(tensors, tmp_path / "model.safetensors")
    own = slot.client.sums_of(SEED).sums
    in_use = total_of(slot.client.sums().sums)
    assert faults(in_use, own | slot.client.sums_of(_folder_of(weights, tmp_path / "right")).sums) == []
    assert faults(in_use, own | slot.client.sums_of(tmp_path).sums) == ["block 2 mlp"]


def _folder_of(weights: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(weights)
    return folder


@pytest.mark.parametrize("fault", ["name", "shape", "truncated", "half of what vLLM fuses"])
def test_weights_that_do_not_fit_are_refused_and_the_engine_goes_on(
    fault: str, told: Told, merge: Callable[..., Merge], prompts: list[str], tmp_path: Path
) -> None:
    import torch

    good, bad = merge(0.3, 0.4), tmp_path / "candidate.safetensors"
    expected = ask(told.engine, SEED, good.weights, prompts[:16])
    tensors: dict[str, Any] = load_file(good.weights)
    name = "model.layers.1.mlp.gate_proj.weight"
    if fault == "name":
        tensors["model.layers.1.mlp.extra.weight"] = tensors[name].clone()
    elif fault == "shape":
        tensors[name] = torch.zeros(3, 5, dtype=torch.bfloat16)
    elif fault != "truncated":
        tensors = {name: tensors[name]}
    save_file(tensors, bad)
    if fault == "truncated":
        bad.write_bytes(bad.read_bytes()[:-1000])
    with pytest.raises(EngineError, match="candidate"):
        ask(told.engine, SEED, bad, prompts[:16])
    assert ask(told.engine, SEED, good.weights, prompts[:16]) == expected


def test_the_same_seeds_give_the_same_programs(engine: VllmEngine) -> None:
    from selfdev_core.algorithm.prompt import load_prompt

    def draw(count: int, seed: int) -> list[str]:
        settings = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 160, "batch_size": 64}
        return [one.text for one in engine.sample(SEED, load_prompt("miniature"), count, seed=seed, **settings)]

    first = draw(48, 7)
    assert len(set(first)) > 40
    assert draw(48, 7) == first
    assert draw(8, 27) == first[20:28]  # program i depends on its own seed, not on what is drawn beside it


def test_an_answer_ends_before_a_stop_string(engine: VllmEngine, prompts: list[str]) -> None:
    whole = engine.answer(SEED, None, prompts[:8], max_new_tokens=36, batch_size=8)
    cut = engine.answer(SEED, None, prompts[:8], max_new_tokens=36, batch_size=8, stop=("\n",))
    assert [one.text for one in cut] == [one.text.split("\n")[0] for one in whole]
