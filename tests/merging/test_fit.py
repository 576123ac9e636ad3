"""What is told of a set of checkpoints before any work starts: every mismatch, in one go."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfdev_core.errors import CheckpointError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.fit import check_fit, check_headers, compare

EMBEDDINGS = "model.embed_tokens.weight"


@pytest.fixture
def expert(pico: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico.experts["alpha"], tmp_path / "expert"))


def _compare(pico: Any, folder: Path, scope: Any = "mlp") -> tuple[str, str]:
    found = compare(Checkpoint(pico.seed), {"mine": Checkpoint(folder)}, scope)
    return "\n".join(found.faults), "\n".join(found.warnings)


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _extend(folder: Path, count: int) -> None:
    """What a fine-tune does that adds tokens: longer embeddings, a longer vocabulary, a new chat template."""
    weights = load_file(folder / "model.safetensors")
    weights[EMBEDDINGS] = torch.cat([weights[EMBEDDINGS], weights[EMBEDDINGS][:count]])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    size = len(weights[EMBEDDINGS])
    _edit(folder / "config.json", lambda config: config.update(vocab_size=size))

    def add(tokenizer: Any) -> None:
        known = dict(tokenizer["added_tokens"][0])
        for number in range(count):
            tokenizer["added_tokens"].append(known | {"id": size - count + number, "content": f"<|turn_{number}|>"})

    _edit(folder / "tokenizer.json", add)
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def test_siblings_have_nothing_to_tell(pico: Any) -> None:
    assert _compare(pico, pico.experts["alpha"], "all") == ("", "")


def test_added_tokens_are_a_warning_while_the_embeddings_are_not_merged(pico: Any, expert: Path) -> None:
    _extend(expert, 5)
    faults, warnings = _compare(pico, expert, "mlp")
    assert faults == ""
    assert "5 tokens that the seed's has not: <|turn_0|>, <|turn_1|>, <|turn_2|> and 2 more" in warnings
    assert f"{EMBEDDINGS} has shape (263, 32), the seed's is (258, 32); not merged, the seed's is kept" in warnings
    assert "vocab_size is 263, the seed's is 258" in warnings and "chat template differs" in warnings
    assert warnings.count("models.experts.mine") == len(warnings.splitlines()) == 4
    faults, _ = _compare(pico, expert, "all")
    assert f"{EMBEDDINGS} has shape (263, 32)" in faults and "scope mlp leaves the embeddings out" in faults


def test_moved_tokens_are_a_fault_whatever_is_merged(pico: Any, expert: Path) -> None:
    def swap(tokenizer: Any) -> None:
        words = tokenizer["model"]["vocab"]
        words["a"], words["b"] = words["b"], words["a"]

    _edit(expert / "tokenizer.json", swap)
    faults, _ = _compare(pico, expert)
    assert "tokenizer.json differs from the seed's (2 tokens of 258 with another number)" in faults


def test_a_number_that_stands_for_another_token_is_a_fault_where_embeddings_are_merged(pico: Any, expert: Path) -> None:
    def rename(tokenizer: Any) -> None:
        words = tokenizer["model"]["vocab"]
        words["<|im_end|>"] = words.pop("a")
        words["<|im_start|>"] = words.pop("b")

    _edit(expert / "tokenizer.json", rename)
    words = json.loads((pico.seed / "tokenizer.json").read_text())["model"]["vocab"]
    faults, warnings = _compare(pico, expert, "all")
    assert (
        f"another token than the seed's for 2 numbers: {words['a']} is <|im_end|>, the seed's a, {words['b']} is"
        in faults
    )
    assert "scope mlp leaves them out" in faults and len(faults.splitlines()) == 1
    faults, told = _compare(pico, expert, "mlp")
    assert (
        faults == "" and told == warnings and "has 2 tokens that the seed's has not: <|im_end|>, <|im_start|>" in told
    )


def test_a_tokenizer_that_only_cuts_differently_is_a_warning(pico: Any, expert: Path) -> None:
    _edit(expert / "tokenizer.json", lambda tokenizer: tokenizer.update(pre_tokenizer=None))
    faults, warnings = _compare(pico, expert)
    assert faults == "" and "cuts or joins text in another way" in warnings
    (expert / "tokenizer.json").unlink()
    assert "cannot be compared" in _compare(pico, expert)[1]


def test_every_mismatch_is_told_at_once_with_counts(
    pico: Any, expert: Path, save_pico: Callable[..., Path], tmp_path: Path
) -> None:
    weights = load_file(expert / "model.safetensors")
    weights |= {name: weights[name].to(torch.int8) for name in weights if name.endswith("up_proj.weight")}
    for name in [name for name in weights if name.endswith("down_proj.weight")]:
        del weights[name]
    weights["extra.weight"] = torch.zeros(2)
    save_file(weights, expert / "model.safetensors")
    _edit(
        expert / "config.json",
        lambda c: c.update(model_type="mistral", hidden_act="gelu", rope_theta=1e6, quantization_config={}),
    )
    short = save_pico(tmp_path / "short", 3, num_hidden_layers=1, intermediate_size=24)
    experts = {"mine": Checkpoint(expert), "short": Checkpoint(short)}
    with pytest.raises(CheckpointError) as refusal:
        check_fit(Checkpoint(pico.seed), experts, "mlp")
    told = str(refusal.value)
    for part in (
        "architecture 'mistral', the seed's is 'llama'",
        "has no tensor model.layers.0.mlp.down_proj.weight, model.layers.1.mlp.down_proj.weight",
        "up_proj.weight are stored as I8",
        "hidden_act is 'gelu'",
        "is quantised",
        "models.experts.short",
        "model.layers.0.mlp.down_proj.weight has shape (32, 24), the seed's is (32, 48); ",
    ):
        assert part in told, (part, told)
    assert re.search(r"\(and, no obstacle\) models.experts.mine .*left out: extra.weight", told)


def test_untied_and_mixed_formats_are_told(pico: Any, save_pico: Callable[..., Path], tmp_path: Path) -> None:
    untied = save_pico(tmp_path / "untied", 1, tie_word_embeddings=False)
    tied = save_pico(tmp_path / "tied", 2, near=untied, dtype="float16")
    found = compare(Checkpoint(untied), {"mine": Checkpoint(tied)}, "all")
    assert "has no tensor lm_head.weight (its embeddings are tied, the seed's are not)" in "\n".join(found.faults)
    warnings = check_headers(Checkpoint(untied), {"mine": Checkpoint(tied)}, "mlp")
    assert any("stored as F16, the seed as BF16 (6 tensors)" in line for line in warnings)
    assert any("tie_word_embeddings is True, the seed's is False" in line for line in warnings)


def test_reading_big_checkpoints_is_announced(pico: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfdev_core.merging import fit

    monkeypatch.setattr(fit, "_BIG", 1)
    told: list[str] = []
    check_fit(Checkpoint(pico.seed), {"mine": Checkpoint(pico.experts["alpha"])}, "all", told.append)
    assert any(line.startswith("checking that seed is finite: 0.0 of 0.0 GB") for line in told)
    assert any("checking that mine" in line for line in told)


@pytest.mark.parametrize(
    ("seeds", "experts", "fault", "warning"),
    [
        ({}, {"sliding_window": 64}, "", "sliding_window is 64, of which the seed's config.json says nothing"),
        ({"sliding_window": 64}, {}, "", "its config.json says nothing of sliding_window, the seed's is 64"),
        ({"sliding_window": None}, {}, "", ""),
        ({"head_dim": None, "num_key_value_heads": None}, {}, "", ""),  # both follow from the other settings
        ({"head_dim": None}, {"head_dim": 16}, "head_dim is 16, the seed's is 8", ""),
        ({"text_config": {"hidden_act": "silu"}}, {"text_config": {"hidden_act": "gelu"}}, "hidden_act is 'gelu'", ""),
        (
            {"hidden_act": None},
            {"hidden_act": "gelu"},
            "",
            "hidden_act is 'gelu', of which the seed's config.json says",
        ),
        (  # one theta in the words of two versions of transformers
            {"rope_parameters": None, "rope_theta": 5e5},
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
            "",
            "",
        ),
        (
            {"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_parameters": {"rope_theta": 5e5}},
            "",
            "rope_theta is 500000.0, the seed's is 10000.0",
        ),
    ],
)
def test_settings_are_compared_wherever_and_in_whatever_words_they_stand(
    pico: Any, expert: Path, tmp_path: Path, seeds: dict[str, Any], experts: dict[str, Any], fault: str, warning: str
) -> None:
    seed = Path(shutil.copytree(pico.seed, tmp_path / "seed"))
    _edit(seed / "config.json", lambda config: config.update(seeds))
    _edit(expert / "config.json", lambda config: config.update(experts))
    found = compare(Checkpoint(seed), {"mine": Checkpoint(expert)}, "mlp")
    for wanted, told in ((fault, found.faults), (warning, found.warnings)):
        assert wanted in "\n".join(told) and bool(wanted) == bool(told), told


def test_a_tokenizer_of_separate_files_is_compared_too(pico: Any, expert: Path, tmp_path: Path) -> None:
    seed = Path(shutil.copytree(pico.seed, tmp_path / "seed"))
    for folder in (seed, expert):
        (folder / "tokenizer.json").unlink()
    found = compare(Checkpoint(seed), {"mine": Checkpoint(expert)}, "mlp")
    assert found.faults == () and "its tokenizer cannot be compared with the seed's" in found.warnings[0]
    for folder in (seed, expert):
        (folder / "vocab.json").write_text('{"a": 0, "b": 1}')
        (folder / "merges.txt").write_text("")
    assert compare(Checkpoint(seed), {"mine": Checkpoint(expert)}, "mlp") == ((), ())
    (expert / "merges.txt").write_text("a b")
    (found,) = compare(Checkpoint(seed), {"mine": Checkpoint(expert)}, "mlp").faults
    assert "its merges.txt differs from the seed's" in found
    (expert / "vocab.json").write_text('{"a": 1, "b": 0}')
    (found,) = compare(Checkpoint(seed), {"mine": Checkpoint(expert)}, "mlp").faults
    assert "its vocab.json and merges.txt differ from the seed's" in found


def test_every_tensor_that_is_not_finite_is_told(pico: Any, expert: Path) -> None:
    weights = load_file(expert / "model.safetensors")
    for name in weights:
        if ".mlp." in name:
            weights[name][0, 0] = float("nan")
    save_file(weights, expert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as refusal:
        check_fit(Checkpoint(pico.seed), {"mine": Checkpoint(expert)}, "mlp")
    assert "model.layers.0.mlp.down_proj.weight" in str(refusal.value)
    assert "and 3 more hold NaN or infinity" in str(refusal.value)
