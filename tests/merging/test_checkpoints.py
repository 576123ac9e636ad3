"""Checkpoints as users have them: opened whole, named by content, refused with the file's name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfdev_core.errors import CheckpointError
from selfdev_core.merging.checkpoints import Checkpoint, open_set
from selfdev_core.merging.fit import check_fit
from selfdev_core.merging.saved import save_merged
from selfdev_core.merging.scope import in_scope


@pytest.fixture
def copy(pico: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico.experts["alpha"], tmp_path / "copy"))


def _check(pico: Any, expert: Path, scope: str = "mlp") -> None:
    check_fit(Checkpoint(pico.seed), {"mine": Checkpoint(expert)}, scope)  # type: ignore[arg-type]


def _rewrite(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name] = change(weights[name].clone()).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_siblings_fit(pico: Any, copy: Path) -> None:
    _check(pico, copy)
    _check(pico, copy, "all")


def test_the_digest_is_of_the_content_not_of_the_place(pico: Any, copy: Path) -> None:
    before = Checkpoint(copy).sha256()
    assert before == Checkpoint(pico.experts["alpha"]).sha256() != Checkpoint(pico.seed).sha256()
    (copy / "notes.txt").write_text("no part of the model")
    assert Checkpoint(copy).sha256() == before
    _rewrite(copy, "model.norm.weight", lambda t: t + 1)
    changed = Checkpoint(copy).sha256()
    (copy / "tokenizer.json").write_text("{}")
    assert len({before, changed, Checkpoint(copy).sha256()}) == 3


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "added_tokens.json"])
def test_every_file_of_a_tokenizer_is_part_of_the_model(pico: Any, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pico.seed, copy)
    seen = {Checkpoint(copy).sha256()}
    for content in ("one", "two"):
        (copy / name).write_text(content)
        seen.add(Checkpoint(copy).sha256())
    assert len(seen) == 3


def test_missing_and_damaged_folders_are_named(copy: Path, tmp_path: Path) -> None:
    cases: list[tuple[str, Callable[[Path], object]]] = [
        (r"no such checkpoint folder", lambda f: shutil.rmtree(f)),
        (r"no config\.json", lambda f: (f / "config.json").unlink()),
        (r"config\.json: is not JSON", lambda f: (f / "config.json").write_text("{")),
        (r"config\.json: is not a JSON object", lambda f: (f / "config.json").write_text("[]")),
        (r"config\.json: is not JSON", lambda f: (f / "config.json").write_bytes(b"\xff\xfe")),
        (r"config\.json: is not JSON", lambda f: (f / "config.json").write_text("[" * 100_000)),
        (r"config\.json: cannot be read \(Is a directory\)", lambda f: _folder_instead(f / "config.json")),
        (r"config\.json: num_hidden_layers is None; put", lambda f: _edit(f, num_hidden_layers=None)),
        (r"config\.json: num_hidden_layers is '2'; put", lambda f: _edit(f, num_hidden_layers="2")),
        (r"index\.json: cannot be read", lambda f: (f / "model.safetensors.index.json").mkdir()),
        (r"model\.safetensors: cannot be read", lambda f: _folder_instead(f / "model.safetensors")),
        (r"no \.safetensors file \(pickled", lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin")),
        (r"model\.safetensors: is truncated", lambda f: _truncate(f / "model.safetensors", 1000)),
        (r"model\.safetensors: is truncated", lambda f: _truncate(f / "model.safetensors", -1)),
        (r"model\.safetensors: is truncated", lambda f: _truncate(f / "model.safetensors", 0)),
        (
            r"model\.safetensors: is truncated",
            lambda f: (f / "model.safetensors").write_bytes(b"version https://git-lfs"),
        ),
    ]
    for number, (message, damage) in enumerate(cases):
        folder = Path(shutil.copytree(copy, tmp_path / f"case{number}"))
        damage(folder)
        with pytest.raises(CheckpointError, match=message) as refusal:
            Checkpoint(folder)
        assert str(folder) in str(refusal.value)


def _folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _edit(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def test_all_that_cannot_be_opened_is_told_at_once(pico: Any, copy: Path, tmp_path: Path) -> None:
    (copy / "config.json").unlink()
    with pytest.raises(CheckpointError) as refusal:
        open_set(pico.seed, {"one": copy, "fine": pico.experts["beta"], "two": tmp_path / "absent"})
    assert "has no config.json" in str(refusal.value) and "absent: no such checkpoint folder" in str(refusal.value)
    seed, experts = open_set(pico.seed, pico.experts)
    assert seed.folder == pico.seed and set(experts) == set(pico.experts)


def test_headers_are_read_without_torch_which_takes_a_second_to_load(pico: Any) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom selfdev_core.merging.checkpoints import Checkpoint\n"
        f"assert Checkpoint(Path({str(pico.seed)!r})).shapes and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_this_user_may_not_read_is_named(copy: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (copy / name).chmod(0)
        with pytest.raises(CheckpointError, match=f"{name}: cannot be read \\(Permission denied\\); this user must"):
            Checkpoint(copy).sha256()
        (copy / name).chmod(0o644)
    copy.chmod(0)
    try:
        with pytest.raises(CheckpointError, match=r"copy: cannot be read \(Permission denied\)"):
            Checkpoint(copy)
    finally:
        copy.chmod(0o755)


def _truncate(path: Path, size: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:size])


def test_a_lost_shard_and_a_damaged_index_are_named(save_pico: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_pico(tmp_path / "sharded", 1, shard_size="20KB")
    whole = Checkpoint(folder)
    assert sorted(name for _, names in whole.by_file() for name in names) == sorted(whole.shapes)
    lost = whole.files[1]
    lost.rename(tmp_path / "lost")
    with pytest.raises(CheckpointError, match=r"is in the index but in no shard \(incomplete download\?\)"):
        Checkpoint(folder)
    (tmp_path / "lost").rename(lost)
    for text in ("{", "[]", '{"weight_map": 1}', "{}"):
        (folder / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"index\.json: is not (a safetensors index|JSON|a JSON object)"):
            Checkpoint(folder)


def test_other_weights_in_the_folder_are_no_part_of_the_model(copy: Path) -> None:
    before = Checkpoint(copy)
    save_file({"layers.0.feed_forward.w1.weight": torch.zeros(2, 2)}, copy / "consolidated.safetensors")
    assert Checkpoint(copy).shapes == before.shapes and Checkpoint(copy).sha256() == before.sha256()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_tensor(pico: Any, copy: Path, value: float) -> None:
    name = "model.layers.1.mlp.down_proj.weight"

    def poison(tensor: torch.Tensor) -> torch.Tensor:
        tensor[0, 0] = value
        return tensor

    _rewrite(copy, name, poison)
    with pytest.raises(CheckpointError, match=rf"mine \(.*copy\): {name} holds NaN or infinity"):
        _check(pico, copy)


def test_a_seed_that_is_not_finite_outside_the_scope_is_refused_too(pico: Any, copy: Path) -> None:
    _rewrite(copy, "model.norm.weight", lambda tensor: tensor * float("nan"))
    with pytest.raises(CheckpointError, match=r"seed \(.*copy\): model\.norm\.weight holds NaN"):
        check_fit(Checkpoint(copy), {"mine": Checkpoint(pico.seed)}, "mlp")
    _check(pico, copy)  # an expert's norm is not used under scope mlp


@pytest.mark.parametrize(
    ("message", "config"),
    [
        (r"model\.embed_tokens\.weight has shape|has shape \(\d+, 16\)", {"hidden_size": 16}),
        (r"has shape \(24, 32\)|has shape \(32, 24\)", {"intermediate_size": 24}),
        (r"has no tensor model\.layers\.1\.", {"num_hidden_layers": 1}),
        (r"num_attention_heads is 2, the seed's is 4", {"num_attention_heads": 2, "num_key_value_heads": 2}),
    ],
)
def test_another_architecture_is_refused_by_expert_and_tensor(
    pico: Any, save_pico: Callable[..., Path], tmp_path: Path, message: str, config: dict[str, int]
) -> None:
    other = save_pico(tmp_path / "other", 1, **config)
    with pytest.raises(CheckpointError, match=message) as refusal:
        _check(pico, other)
    assert f"models.experts.mine ({other})" in str(refusal.value)


def test_another_model_type_and_another_tokenizer_are_refused_all_at_once(
    pico: Any, copy: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    (other / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError) as refusal:
        check_fit(Checkpoint(pico.seed), {"one": Checkpoint(copy), "two": Checkpoint(other)}, "mlp")
    assert "models.experts.one" in str(refusal.value) and "architecture 'mistral', the seed's is 'llama'" in str(
        refusal.value
    )
    assert "models.experts.two" in str(refusal.value) and "tokenizer.json differs" in str(refusal.value)


def test_a_scope_without_parameters_is_refused_with_the_mend(pico: Any, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(pico.seed / "config.json", bare)
    save_file({"model.norm.weight": torch.ones(4)}, bare / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"models\.scope: 'mlp' matches no parameter .*; try scope: all"):
        check_fit(Checkpoint(bare), {}, "mlp")


def test_an_existing_folder_is_never_written_over(pico: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(CheckpointError, match=r"out: exists already; name a new folder"):
        save_merged(Checkpoint(pico.seed), {}, out)
    assert list(out.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_merged(Checkpoint(pico.seed), {}, tmp_path / "file" / "out")


def test_a_full_disk_leaves_no_half_written_model(pico: Any, tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\nfrom pathlib import Path\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from selfdev_core.errors import CheckpointError\n"
        "from selfdev_core.merging.checkpoints import Checkpoint\nfrom selfdev_core.merging.saved import save_merged\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))\n"
        "try:\n    save_merged(Checkpoint(Path(sys.argv[1])), {}, Path(sys.argv[2]))\n"
        "except CheckpointError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(pico.seed), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_scopes() -> None:
    assert in_scope("model.layers.0.mlp.up_proj.weight", "mlp")
    assert not in_scope("model.layers.0.self_attn.q_proj.weight", "mlp")
    assert not in_scope("model.embed_tokens.weight", "mlp")
    assert in_scope("model.embed_tokens.weight", "all")
