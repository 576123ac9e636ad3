"""What is said of a program from its text alone."""

from __future__ import annotations

import pytest

from selfdev_core.algorithm.contract import ALLOWED_IMPORTS, check_source, layer_of

BODY = "\n    return sum(model_dict.values())\n"


@pytest.mark.parametrize(
    "signature",
    [
        "(model_dict, device)",
        "(experts, place)",
        "(model_dict, device, layer)",
        "(model_dict, device, *, layer)",
        "(model_dict, device, alpha=0.5)",
        "(model_dict, device, layer, alpha=0.5)",
        "(model_dict, device, /)",
        "(model_dict, device, *rest, **more)",
    ],
)
def test_signatures_that_can_be_called_pass(signature: str) -> None:
    assert check_source(f"def merge_models{signature}:{BODY}") is None


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("", "merge_models"),
        ("x = 1", "merge_models"),
        (f"def merge(model_dict, device):{BODY}", "merge_models"),
        ("def outer():\n  def merge_models(model_dict, device):\n    return 1\n", "merge_models"),
        ("merge_models = lambda model_dict, device: 1", "merge_models"),
        (f"def merge_models(model_dict):{BODY}", "(model_dict)"),
        (f"def merge_models():{BODY}", "needs"),
        (f"def merge_models(model_dict, device, alpha):{BODY}", "alpha"),
        (f"def merge_models(model_dict, device, layer, alpha):{BODY}", "alpha"),
        (f"def merge_models(model_dict, device, *, alpha):{BODY}", "alpha"),
    ],
)  # fmt: skip
def test_a_wrong_entry_point_is_a_breach_of_the_contract(source: str, word: str) -> None:
    refusal = check_source(source)
    assert refusal is not None and refusal.reason == "contract"
    assert word in refusal.detail


@pytest.mark.parametrize("module", sorted(ALLOWED_IMPORTS))
def test_allowed_imports_pass(module: str) -> None:
    good = f"def merge_models(model_dict, device):{BODY}"
    assert check_source(f"import {module}\n{good}") is None
    assert check_source(f"import {module} as m\n{good}") is None
    assert check_source(f"from {module} import *\n{good}") is None


@pytest.mark.parametrize(
    "statement",
    ["import os", "import torch, sys", "import os.path as p", "from subprocess import run", "from . import torch",
     "from .torch import nn", "import torchvision", "import numpyx.torch"],
)  # fmt: skip
def test_other_imports_are_refused_wherever_they_stand(statement: str) -> None:
    good = f"def merge_models(model_dict, device):{BODY}"
    inside = f"def merge_models(model_dict, device):\n    {statement}{BODY}"
    for source in (f"{statement}\n{good}", inside):
        refusal = check_source(source)
        assert refusal is not None and refusal.reason == "forbidden-import"
        assert "allowed: " in refusal.detail


def test_a_syntax_error_names_its_line() -> None:
    refusal = check_source("import torch\n\ndef merge_models(:\n")
    assert refusal is not None and refusal.reason == "syntax-error" and refusal.detail.startswith("line 3:")


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("model.layers.0.mlp.up_proj.weight", 0),
        ("model.layers.17.self_attn.q_proj.weight", 17),
        ("transformer.h.3.mlp.c_fc.weight", 3),
        ("gpt.blocks.11.ffn.weight", 11),
        ("model.embed_tokens.weight", -1),
        ("lm_head.weight", -1),
    ],
)
def test_layer_of_reads_the_depth_from_the_name(name: str, index: int) -> None:
    layer = layer_of(name, 32)
    assert (layer.index, layer.count, layer.name) == (index, 32, name)


def test_programs_that_are_parsed_at_the_same_time_do_not_disturb_each_other() -> None:
    """Python 3.11 counts the depth of syntax trees for all threads together; a garbage collection lets another thread in."""
    import gc
    import time
    from concurrent.futures import ThreadPoolExecutor

    deep = "def merge_models(model_dict, device):\n    return " + "(" * 60 + "1" + "+1)" * 60

    def let_others_in(*_: object) -> None:
        time.sleep(1e-5)

    before = gc.get_threshold()
    gc.callbacks.append(let_others_in)
    gc.set_threshold(20)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(check_source, [deep] * 40))
    finally:
        gc.callbacks.remove(let_others_in)
        gc.set_threshold(*before)
    assert found == [None] * 40
