"""Direct preference optimisation of the factory with TRL (paper, section 3: π_{t+1} is trained from π_t)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple


class Training(NamedTuple):
    """Loss and reward margin (chosen minus rejected, implicit reward) at every optimiser step."""

    losses: list[float]
    reward_margins: list[float]


def train_factory(
    folder: str, out: str, prompt: str, pairs: list[tuple[str, str]], settings: dict[str, Any], seed: int
) -> Training:
    """Train the checkpoint in `folder` on (chosen, rejected) continuations and save it in `out`. Runs in a worker.

    `settings` are the fields of DpoConfig. The reference model is the factory as it was before this update. Weights are
    saved in float32 so that small updates add up over iterations.
    """
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from transformers.utils import logging
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    cuda = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lora = settings["method"] == "lora"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    data = Dataset.from_dict(
        {"prompt": [prompt] * len(pairs), "chosen": [c for c, _ in pairs], "rejected": [r for _, r in pairs]}
    )
    sft = float(settings["sft_weight"])
    shutil.rmtree(out, ignore_errors=True)  # what a killed worker left
    with tempfile.TemporaryDirectory() as scratch:
        arguments = DPOConfig(
            output_dir=scratch,
            max_steps=int(settings["steps"]),
            per_device_train_batch_size=int(settings["batch_size"]),
            learning_rate=float(settings["learning_rate"]),
            lr_scheduler_type="linear",
            warmup_steps=2,
            beta=float(settings["beta"]),
            loss_type=["sigmoid", "sft"] if sft else ["sigmoid"],
            loss_weights=[1.0, sft] if sft else None,
            precompute_ref_log_probs=True,
            max_length=None,
            seed=seed,
            data_seed=seed,
            use_cpu=not cuda,
            bf16=cuda,
            gradient_checkpointing=cuda,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=cuda,
        )
        trainer = DPOTrainer(
            model=model,
            args=arguments,
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=_lora(int(settings["lora_rank"])) if lora else None,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        steps = [entry for entry in trainer.state.log_history if "rewards/margins" in entry]
        trained = trainer.model.merge_and_unload() if lora else trainer.model
        trained.save_pretrained(out)
        tokenizer.save_pretrained(out)
    return Training([float(e["loss"]) for e in steps], [float(e["rewards/margins"]) for e in steps])


def shorten_update(before: str, after: str, share: float, out: str) -> None:
    """Save `before + share · (after − before)` in `out`: the update, shortened (our choice). Runs in a worker."""
    from safetensors.torch import load_file, save_file

    old = {name: tensor for path in Path(before).glob("*.safetensors") for name, tensor in load_file(path).items()}
    shutil.rmtree(out, ignore_errors=True)  # what a killed worker left
    shutil.copytree(after, out)
    for path in Path(out).glob("*.safetensors"):
        new = load_file(path)
        mixed = {name: old[name].float().lerp(tensor.float(), share) for name, tensor in new.items()}
        save_file(mixed, path, metadata={"format": "pt"})


def _lora(rank: int) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
