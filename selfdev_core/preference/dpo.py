"""Direct preference optimisation of the factory with TRL (paper, section 3: π_{t+1} is trained from π_t).

The reference is the factory as it was before the update; its log-probabilities are computed once, before the first step, so
that no second model stays in memory. With LoRA that is the model with its adapter off, or with a frozen copy of the
adapter that the factory has already.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfdev_core.preference.saves import is_over, last_save

if TYPE_CHECKING:
    from datasets import Dataset


class Training(NamedTuple):
    """Loss and reward margin (chosen minus rejected, implicit reward) at every optimiser step."""

    losses: list[float]
    reward_margins: list[float]


class Update(NamedTuple):
    """One update: the model in `folder` (with the adapter in `adapter`, if it has one) is trained and saved in `out`.

    `settings` are the fields of DpoConfig. In `saves`, if named, training is saved every `save_steps` optimiser steps and goes
    on from what it finds there.
    """

    folder: str
    adapter: str
    out: str
    settings: dict[str, Any]
    seed: int
    saves: str = ""
    save_steps: int = 0


def train_factory(update: Update, prompt: str, pairs: list[tuple[str, str]]) -> Training:
    """Train on (chosen, rejected) continuations of the prompt. Runs in a worker; `processes` above 1 are started from there.

    Saves a whole checkpoint, or with method lora the adapter; in float32, so that small updates add up over iterations. A GPU
    has nothing of this process's while it trains but the training, and no tensor once it has trained.
    Raises: EngineError when one of several processes dies.
    """
    from datasets import Dataset

    from selfdev_core.workers.models import release

    release()
    try:
        saved = last_save(Path(update.saves)) if update.saves else None
        if saved is not None and is_over(Path(saved)):
            return _taken_over(update, Path(saved))
        rows = {"prompt": [prompt] * len(pairs), "chosen": [c for c, _ in pairs], "rejected": [r for _, r in pairs]}
        if int(update.settings["processes"]) == 1:
            return train(update, Dataset.from_dict(rows))
        from selfdev_core.preference.ranks import train_together

        return train_together(update, Dataset.from_dict(rows))
    finally:
        release()  # this process lives on, and an engine that starts next needs the room


def train(update: Update, data: Dataset) -> Training:
    """Train in this process, on one GPU however many it sees: alone, or as one of several that torch.distributed's variables tell
    of each other."""
    import torch
    from datasets import disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from transformers.utils import logging
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    logging.disable_progress_bar()
    torch.manual_seed(update.seed)
    settings = update.settings
    cuda, lora = torch.cuda.is_available(), settings["method"] == "lora"
    short = settings["precision"] == "bfloat16" or (settings["precision"] == "auto" and cuda)
    checkpointing = settings["gradient_checkpointing"]
    tokenizer = AutoTokenizer.from_pretrained(update.folder)
    # An adapter's base is only read, so it may be as short as what is computed in.
    dtype = torch.bfloat16 if lora and short else torch.float32
    model = AutoModelForCausalLM.from_pretrained(update.folder, dtype=dtype)
    if update.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, update.adapter, is_trainable=True)
    sft = float(settings["sft_weight"])
    per_process = int(settings["batch_size"]) // int(settings["processes"])
    micro = int(settings["micro_batch"] or per_process)
    epochs = settings["epochs"]
    steps = math.ceil(len(data) / int(settings["batch_size"])) * float(epochs) if epochs else int(settings["steps"])
    saving = bool(update.saves) and steps > update.save_steps
    shutil.rmtree(update.out, ignore_errors=True)  # what a killed worker left
    with tempfile.TemporaryDirectory() as scratch:
        arguments = DPOConfig(
            output_dir=update.saves if saving else scratch,
            max_steps=-1 if epochs else int(settings["steps"]),
            num_train_epochs=float(epochs or 1),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=per_process // micro,
            learning_rate=float(settings["learning_rate"]),
            lr_scheduler_type="linear",
            warmup_steps=int(settings["warmup_steps"]),
            beta=float(settings["beta"]),
            loss_type=["sigmoid", "sft"] if sft else ["sigmoid"],
            loss_weights=[1.0, sft] if sft else None,
            precompute_ref_log_probs=True,
            max_length=settings["max_length"],
            disable_dropout=not settings["lora_dropout"],
            seed=update.seed,
            data_seed=update.seed,
            use_cpu=not cuda,
            bf16=short,
            activation_checkpointing=cuda if checkpointing is None else checkpointing,
            activation_checkpointing_kwargs={"use_reentrant": False},
            ddp_find_unused_parameters=False,
            logging_steps=1,
            save_strategy="steps" if saving else "no",
            save_steps=max(1, update.save_steps),
            save_total_limit=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=cuda,
        )
        if arguments.n_gpu > 1:  # transformers would spread one process over all GPUs that it sees, which TRL refuses
            arguments._n_gpu = 1
        trainer = DPOTrainer(
            model=model,
            args=arguments,
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=_lora(settings) if lora and not update.adapter else None,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last_save(Path(update.saves)) if saving else None)
        if trainer.is_world_process_zero():
            _save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, update)
    return _training(trainer.state.log_history)


def _taken_over(update: Update, saved: Path) -> Training:
    """The outcome of a training that was killed after its last step: saved anew from its last save, no step done again."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState

    lora = update.settings["method"] == "lora"
    # An adapter's base is not saved; the adapter itself is in float32 whatever its base is in.
    dtype = torch.bfloat16 if lora else torch.float32
    model = AutoModelForCausalLM.from_pretrained(update.folder if lora else saved, dtype=dtype)
    if lora:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, saved)
    shutil.rmtree(update.out, ignore_errors=True)
    _save(model, AutoTokenizer.from_pretrained(update.folder), update)
    return _training(TrainerState.load_from_json(str(saved / "trainer_state.json")).log_history)


def _save(model: Any, tokenizer: Any, update: Update) -> None:
    if update.settings["method"] == "lora":
        from selfdev_core.preference.adapters import save_adapter

        save_adapter(model, Path(update.folder), Path(update.out))
    else:
        model.save_pretrained(update.out)
    tokenizer.save_pretrained(update.out)


def _training(history: list[dict[str, float]]) -> Training:
    logged = [entry for entry in history if "rewards/margins" in entry]
    return Training([float(e["loss"]) for e in logged], [float(e["rewards/margins"]) for e in logged])


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


def _lora(settings: dict[str, Any]) -> Any:
    from peft import LoraConfig

    rank, targets = int(settings["lora_rank"]), settings["lora_targets"]
    return LoraConfig(
        r=rank,
        lora_alpha=int(settings["lora_alpha"] or 2 * rank),
        lora_dropout=float(settings["lora_dropout"]),
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
