"""A benchmark that is a dataset: files from the Hugging Face Hub or from this machine, read by `datasets` in the same way."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfdev_core.asking import GraderName
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.benchmarks import Part, Row

_ENDINGS = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class DatasetBenchmark:
    """A dataset with a train and a test part, in `PART.jsonl`, `PART.json`, `PART.parquet` or `PART-00000-of-….parquet`.

    On the Hub the files lie in `folders`; on this machine in the folder itself or in the same `folders` below it. Each row has a
    question and a reference answer, and perhaps a subject, under the names of the fields given here.
    """

    hub_id: str
    revision: str
    folders: tuple[str, ...]
    question_field: str
    answer_field: str
    template: str
    stop: tuple[str, ...]
    grader: GraderName | Path
    max_new_tokens: int
    group_field: str = ""
    shots: int = 5

    def rows(self, part: Part, path: Path | None, revision: str | None) -> list[Row]:
        """As Benchmark.rows. A row's id is its `id` or `unique_id` if it has one, else `PART-NUMBER`, counted from 0."""
        root = self._from_hub(part, revision or self.revision) if path is None else path
        made: list[Row] = []
        for file in self._files(root, part):
            for number, row in enumerate(_read(file)):
                made.append(self._row(row, f"{file}, row {number + 1}", f"{part}-{len(made)}"))
        return made

    def _row(self, row: dict[str, Any], where: str, number: str) -> Row:
        question, answer = row.get(self.question_field), row.get(self.answer_field)
        for field, value in ((self.question_field, question), (self.answer_field, answer)):
            if not isinstance(value, str) or not value.strip():
                raise ConfigError(f"{where}: has no text in the field {field!r}; its fields are {', '.join(row)}")
        own = row.get("id", row.get("unique_id"))
        group = row.get(self.group_field) if self.group_field else None
        return Row(number if own is None else str(own), str(question).strip(), str(answer).strip(), str(group or ""))

    def _files(self, root: Path, part: Part) -> list[Path]:
        """The files of a part; a single file is the test part.

        Raises: ConfigError when there is no file at all, or some of `folders` hold the part and others do not.
        """
        if root.is_file():
            return [root] if part == "test" else []
        places = ([root], [root / name for name in self.folders])
        for folders in places:
            found = {folder: _of_part(folder, part) for folder in folders}
            missing = [folder.name for folder, files in found.items() if not files]
            if 0 < len(missing) < len(found):  # fewer subjects are another benchmark under the same name
                raise ConfigError(
                    f"questions.path: {root}: no {part} part in {', '.join(missing)}; download it there too, or write "
                    f"the rows that you want into one {part}.jsonl in {root}"
                )
            if not missing:
                return [file for files in found.values() for file in files]
        if any(_of_part(folder, name) for folders in places for folder in folders for name in ("train", "test")):
            return []
        raise ConfigError(
            f"questions.path: {root} holds neither train nor test ({' or '.join(_ENDINGS)}), nor do its folders "
            f"{', '.join(self.folders)}"
            if root.is_dir()
            else f"questions.path: {root}: no such file or folder"
        )

    def _from_hub(self, part: Part, revision: str) -> Path:
        from huggingface_hub import snapshot_download

        try:
            wanted = [f"{folder}/{part}*" for folder in self.folders]
            return Path(snapshot_download(self.hub_id, repo_type="dataset", revision=revision, allow_patterns=wanted))
        except Exception as error:
            told = str(error).strip().split("\n", 1)[0]
            raise ConfigError(
                f"questions.benchmark: {self.hub_id} at {revision[:12]} cannot be had from the Hugging Face Hub ({told}); "
                "download it elsewhere and give its folder as questions.path"
            ) from error


def _of_part(folder: Path, part: str) -> list[Path]:
    """`test.jsonl`, or else the pieces `test-00000-of-00002.parquet`, …; a file that is there in two forms is read once.

    Raises: ConfigError when the pieces are not those that their names speak of.
    """
    for ending in _ENDINGS:
        whole = folder / f"{part}{ending}"
        if whole.is_file():
            return [whole]
        pieces = sorted(folder.glob(f"{part}-*{ending}"))
        if pieces:
            _check_whole(folder, part, pieces)
            return pieces
    return []


def _check_whole(folder: Path, part: str, pieces: list[Path]) -> None:
    counted = [found for piece in pieces if (found := re.search(r"-of-(\d{5})$", piece.stem))]
    if not counted:
        return
    total = int(counted[0][1])
    wanted, there = {f"{part}-{i:05d}-of-{total:05d}" for i in range(total)}, {piece.stem for piece in pieces}
    if wanted != there:
        odd = min(wanted ^ there)
        what = "is missing" if odd in wanted else "belongs to another download"
        raise ConfigError(f"questions.path: {folder}: {odd}{pieces[0].suffix} {what}; download the {part} part again")


def _read(file: Path) -> list[dict[str, Any]]:
    from datasets import Dataset, disable_progress_bars
    from datasets.utils.logging import set_verbosity_error

    set_verbosity_error()
    disable_progress_bars()
    reader = Dataset.from_parquet if file.suffix == ".parquet" else Dataset.from_json
    try:
        with tempfile.TemporaryDirectory() as cache:  # its own cache would be asked for a file that has changed since
            rows: list[dict[str, Any]] = reader(str(file), cache_dir=cache, keep_in_memory=True).to_list()
    except Exception as error:
        cause = error.__cause__ or error
        told = str(cause).strip().split("\n", 1)[0]
        raise ConfigError(f"{file}: cannot be read as {file.suffix[1:]}: {told}") from error
    if not rows:
        raise ConfigError(f"{file}: holds no row")
    return rows
