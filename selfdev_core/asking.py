"""The section `questions` of the configuration: where questions come from, how they are asked, how answers are graded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from selfdev_core.section import Section

BenchmarkName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
GraderName = Literal["number", "exact", "choice", "math"]
Extraction = Literal["strict", "flexible"]
SplitRule = Literal["honest", "paper", "test-only"]
Chat = Literal["auto", "on", "off"]
TWO_WAYS = ("number", "math")  # graders that read an answer strictly and flexibly


class QuestionsConfig(Section):
    """Where the questions come from, how many each split holds, how they are asked and graded."""

    family: Literal["arithmetic", "transfer"] | None = Field(
        None, description="Word problems of a miniature family. Give this, a benchmark, or the three files."
    )
    benchmark: BenchmarkName | None = Field(
        None,
        description="gsm8k, math, or one that an installed package adds (entry point group selfdev.benchmarks). From the Hugging "
        "Face Hub, or from `path`.",
    )
    path: Path | None = Field(
        None,
        description="Only for a benchmark: its files on this machine, a folder with train and test (JSONL, JSON or parquet), or "
        "one file, which is then its test split.",
    )
    revision: str | None = Field(
        None,
        min_length=1,
        description="Only for a benchmark from the Hub: commit, tag or branch of the dataset; by default a commit that is pinned "
        "here.",
    )
    split_rule: SplitRule = Field(
        "honest",
        description="Only for a benchmark. honest: search and validation from train, test from test. paper: search from test, "
        "test is the rest of it, validation from train. test-only: all three from test, for a benchmark without train.",
    )
    search_file: Path | None = Field(
        None, description="JSONL with `question` and `answer`: queried by every candidate."
    )
    validation_file: Path | None = Field(None, description="JSONL: re-scores the finalists.")
    test_file: Path | None = Field(None, description="JSONL: opened once, by the winner.")
    search: int = Field(
        64, ge=1, description="Search questions per candidate (the paper: 100 for GSM8K, 600 for MATH)."
    )
    validation: int = Field(256, ge=1, description="Validation questions per finalist.")
    test: int = Field(1000, ge=1, description="Test questions (the paper: the rest, 1219 for GSM8K, 4400 for MATH).")
    shots: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Only for a benchmark: worked examples before each question, from train and never among the questions asked; "
        "by default the benchmark's, 5 (the paper: 5).",
    )
    template: str | None = Field(
        None,
        description="Prompt of one question; must hold `{question}`. By default the benchmark's; otherwise `Q: {question}\\nA:`.",
    )
    chat: Chat = Field(
        "auto", description="Ask through the seed's chat template. auto: when its tokenizer has one; on; off."
    )
    stop: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None,
        description="Texts at which an answer ends; what follows is not graded. By default none; for a benchmark asked without a "
        "chat template, where the next question would begin. With a chat template an answer also ends where its turn does.",
    )
    grader: GraderName | Path | None = Field(
        None,
        description="number, exact (the same text), choice (a letter), math (Math-Verify), or a Python file of your own with "
        "grade(answer, reference). By default the benchmark's; otherwise number.",
    )
    extraction: Extraction | None = Field(
        None,
        description="Which reading of an answer makes the score; both are reported. strict: only after `####` (number) or in "
        "`\\boxed{}` (math). flexible: also the last number, or any final expression. By default flexible for a benchmark, "
        "otherwise strict.",
    )
    max_new_tokens: int | None = Field(
        None,
        ge=1,
        le=32768,
        description="Answer length limit, tokens. By default the benchmark's (gsm8k 512, math 1024); otherwise 36.",
    )
    batch_size: int = Field(128, ge=1, description="Questions answered at once.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        files = (self.search_file, self.validation_file, self.test_file)
        if sum((bool(self.family), bool(self.benchmark), any(files))) > 1:
            raise ValueError("give either a benchmark, a family or the three question files; not two of them")
        if not self.family and not self.benchmark and not all(files):
            raise ValueError("give a benchmark, a family, or search_file, validation_file and test_file")
        if not self.benchmark:
            given = {"path": self.path, "revision": self.revision, "shots": self.shots}
            given |= {"split_rule": None if self.split_rule == "honest" else self.split_rule}
            wrong = [name for name, value in given.items() if value is not None]
            if wrong:
                raise ValueError(f"{wrong[0]}: only for a benchmark")
        if self.path is not None and self.revision is not None:
            raise ValueError("revision: only for a benchmark from the Hub; leave it out, or leave out path")
        if self.template is not None and "{question}" not in self.template:
            raise ValueError("template: must hold {question}")
        if self.extraction and self.grader is not None and self.grader not in TWO_WAYS:
            raise ValueError(f"extraction: only for the graders {' and '.join(TWO_WAYS)}")
        return self

    def anchored(self, folder: Path) -> QuestionsConfig:
        """The same with relative paths taken from `folder`."""
        names = ("path", "search_file", "validation_file", "test_file", "grader")
        paths = {name: value for name in names if isinstance(value := getattr(self, name), Path)}
        return self.model_copy(update={name: (folder / path.expanduser()).resolve() for name, path in paths.items()})
