"""What a plan looks up before it computes: models, grids, lengths of prompts.

The Hub is asked for file lists and config.json only, and nothing of that is kept.
"""

from __future__ import annotations

import json
from pathlib import Path

from selfdev_core.algorithm.prompt import load_prompt
from selfdev_core.asking import QuestionsConfig
from selfdev_core.config import CampaignConfig, ModelsConfig
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.benchmarks import find_benchmark
from selfdev_core.evaluation.sources import QuestionSource, manner_of
from selfdev_core.merging.hub import fetched_files, is_repository
from selfdev_core.merging.human import human_algorithms
from selfdev_core.planning.amounts import SetSize
from selfdev_core.planning.facts import HOME, Facts
from selfdev_core.planning.models import Ask, ModelFacts, facts_of_folder, facts_of_hub
from selfdev_core.planning.shapes import Shape
from selfdev_core.prepare import prompt_of

LETTERS_PER_TOKEN = 3.5  # of English and Python, where the tokenizer is not here
TOKENS_PER_EXAMPLE = 200  # of a question with its answer, where the questions are not here


def look_up(config: CampaignConfig, ask: Ask, shape: Shape | None = None) -> Facts:
    """`shape`: of models whose config.json nobody can be asked for. Raises: ConfigError naming the model or setting."""
    models = {HOME: models_of(config.models, ask, shape)}
    models |= {name: models_of(target.models, ask, shape) for name, target in config.transfer.items()}
    grid = human_algorithms(config.controls)
    tokenizer = _folder(config.models, "seed")
    return Facts(
        models=models,
        home=_size(config.questions, models[HOME]),
        targets=tuple(_size(target.questions, models[name]) for name, target in config.transfer.items()),
        human=len(grid),
        methods=len({one.method for one in grid}),
        factory_prompt=count_tokens(load_prompt(prompt_of(config)), tokenizer),
        question_prompt=_longest_prompt(config, tokenizer),
    )


def models_of(models: ModelsConfig, ask: Ask, shape: Shape | None) -> list[ModelFacts]:
    """Seed and experts, in order. Raises: ConfigError when one is not there, or nothing tells its size."""
    if models.family:
        from selfdev_core.miniature.families import family_folder

        root = family_folder(models.family)
        folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name != "seed")
        return [facts_of_folder(f"{models.family}/{path.name}", path) for path in (root / "seed", *folders)]
    assert models.seed is not None
    return [_facts(text, ask, shape) for text in (models.seed, *models.experts.values())]


def seed_shape(models: ModelsConfig, ask: Ask) -> Shape | None:
    """The shape of a seed; None where nothing tells it any more: its folder is gone, say."""
    if not models.family:
        assert models.seed is not None
        try:
            return _facts(models.seed, ask, None).shape
        except ConfigError:
            return None
    return models_of(models, ask, None)[0].shape


def _facts(text: str, ask: Ask, shape: Shape | None) -> ModelFacts:
    folder = Path(text).expanduser()
    if folder.is_dir() or not is_repository(text):
        return facts_of_folder(text, folder)
    repository, _, revision = text.partition("@")
    fetched = _fetched(repository, revision or None)
    if fetched is not None:
        return facts_of_folder(text, fetched)._replace(how="in the Hub's cache")
    return facts_of_hub(text, repository, revision or None, ask, shape)


def _fetched(repository: str, revision: str | None) -> Path | None:
    """The folder in the Hub's cache that holds the model's weights, if one holds them all."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json", revision=revision)
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder is not None and _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    """Whether no shard of the weights is missing."""
    weights = [
        name
        for name in fetched_files(path.name for path in folder.iterdir() if path.is_file())
        if name.endswith(".safetensors")
    ]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any("-of-" not in name for name in weights)
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) <= set(weights)
    except (ValueError, LookupError, TypeError, AttributeError):
        return False  # broken off


def count_tokens(text: str, folder: Path | None) -> int:
    """With the tokenizer in `folder`, or by letters."""
    if folder is None or not (folder / "tokenizer.json").is_file():
        return round(len(text) / LETTERS_PER_TOKEN)
    from tokenizers import Tokenizer

    return len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids)


def _folder(models: ModelsConfig, name: str) -> Path | None:
    """The seed's folder, if it is on this machine."""
    if models.family:
        from selfdev_core.miniature.families import family_folder

        return family_folder(models.family) / name
    assert models.seed is not None
    folder = Path(models.seed).expanduser()
    return folder if folder.is_dir() else None


def _size(questions: QuestionsConfig, models: list[ModelFacts]) -> SetSize:
    limit = answer_limit(questions)
    return SetSize(len(models) - 1, questions.search, questions.validation, questions.test, limit)


def answer_limit(questions: QuestionsConfig) -> int:
    """Tokens that an answer may have."""
    benchmark = find_benchmark(questions.benchmark) if questions.benchmark else None
    return questions.max_new_tokens or manner_of(benchmark).max_new_tokens


def _longest_prompt(config: CampaignConfig, seed: Path | None) -> int:
    """Tokens of the longest prompt of a search question; by examples where questions or tokenizer are not on this machine."""
    questions = config.questions
    if seed is None or (questions.benchmark and questions.path is None):
        shots = questions.shots
        if shots is None:
            shots = find_benchmark(questions.benchmark).shots if questions.benchmark else 0
        return TOKENS_PER_EXAMPLE * (shots + 1)
    source = QuestionSource(questions)
    decoding = source.decoding(seed)
    longest = max((decoding.prompt(item.question) for item in source.block("search").items), key=len)
    return count_tokens(longest, seed)
