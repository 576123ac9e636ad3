"""`selfdev evaluate` and `selfdev grade`: scores of any checkpoint, and of answers that exist. Served by evaluation.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

BenchmarkOption = Annotated[str | None, typer.Option("--benchmark", "-b", help="gsm8k, math, or a package's own.")]
PathOption = Annotated[
    Path | None, typer.Option(help="The benchmark's files: a folder, or one file; by default the Hugging Face Hub.")
]
RevisionOption = Annotated[str | None, typer.Option(help="Of the Hub's dataset; by default a pinned commit.")]
ExtractionOption = Annotated[
    Literal["strict", "flexible"] | None, typer.Option(help="Which reading is the score; both are printed.")
]


def add_to(app: typer.Typer, console: Console) -> None:
    """Add the commands to the front door."""

    @app.command()
    def evaluate(
        model: Annotated[str, typer.Argument(help="Checkpoint: a Hugging Face folder.")],
        benchmark: BenchmarkOption = None,
        campaign: Annotated[
            Path | None,
            typer.Option(metavar="CAMPAIGN.yaml", help="Ask the questions of this file instead, as it asks them."),
        ] = None,
        path: PathOption = None,
        revision: RevisionOption = None,
        split: Annotated[
            str | None,
            typer.Option(
                help="Of a benchmark: test (default) or train. Of a campaign: search (default) or validation."
            ),
        ] = None,
        limit: Annotated[int | None, typer.Option(help="Ask only so many questions.", min=1)] = None,
        shots: Annotated[int | None, typer.Option(help="Worked examples; by default 5.", min=0)] = None,
        chat: Annotated[
            Literal["auto", "on", "off"] | None,
            typer.Option(help="Use the model's chat template; by default if it has one."),
        ] = None,
        extraction: ExtractionOption = None,
        max_new_tokens: Annotated[int | None, typer.Option(help="Answer length limit, tokens.", min=1)] = None,
        batch_size: Annotated[
            int | None, typer.Option(help="Questions answered at once; by default 32.", min=1)
        ] = None,
        workers: Annotated[int, typer.Option(help="Processes that hold the model.", min=1)] = 1,
        store: Annotated[
            str | None, typer.Option("--store", help="Where scores are kept; by default the store in SELFDEV_HOME.")
        ] = None,
    ) -> None:
        """Score a checkpoint on a benchmark, or on a campaign's questions. Asked again, it answers from the store.

        Example: selfdev evaluate ./model --benchmark gsm8k --limit 200
        """
        from flows.evaluation import evaluate_here

        how: dict[str, object] = {"path": path, "revision": revision, "shots": shots, "chat": chat}
        how |= {"extraction": extraction, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
        evaluate_here(model, benchmark, campaign, split, limit, how, workers, store, console)

    @app.command()
    def grade(
        answers: Annotated[Path, typer.Argument(metavar="ANSWERS.jsonl", help="One JSON object per line.")],
        benchmark: BenchmarkOption = None,
        grader: Annotated[
            str | None,
            typer.Option(help="Instead of a benchmark's: number, exact, choice, math, or your own .py file."),
        ] = None,
        path: PathOption = None,
        revision: RevisionOption = None,
        split: Annotated[Literal["test", "train"], typer.Option(help="Of the benchmark.")] = "test",
        field: Annotated[
            str | None,
            typer.Option(help="Field of the answer, dots for fields within; by default prediction or answer."),
        ] = None,
        extraction: ExtractionOption = None,
    ) -> None:
        """Score answers that exist already: `prediction` or `answer` beside `reference`, or beside a benchmark's own rows.

        Without `reference`, rows are matched with the benchmark by `id`, else by `question`, else one by one in its order.
        Example: selfdev grade answers.jsonl --benchmark gsm8k
        """
        from flows.evaluation import grade_here

        grade_here(answers, benchmark, grader, path, revision, split, field, extraction, console)
