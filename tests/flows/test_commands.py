"""The other commands, on the finished tiny campaign."""

from __future__ import annotations

from pathlib import Path

from selfdev_core.miniature.families import family_folder
from tests.flows.conftest import Selfdev
from tests.flows.test_campaign import result_of


def test_show_lists_the_leaderboard_and_marks_the_winner(selfdev: Selfdev, finished: Path) -> None:
    output = selfdev("show", "tiny").stdout
    assert "★" in output and result_of(finished).winner in output and "validation" in output


def test_show_prints_one_program_with_its_scores(selfdev: Selfdev, finished: Path) -> None:
    winner = result_of(finished).winner
    for wanted in ("winner", winner, winner[:10]):
        output = selfdev("show", "tiny", "--algorithm", wanted).stdout
        assert "def merge_models" in output and "test" in output and "drawn" in output


def test_show_names_what_it_cannot_find(selfdev: Selfdev, finished: Path) -> None:
    assert "a-nothing" in selfdev("show", "tiny", "-a", "a-nothing", status=2).stderr
    assert "known campaigns: " in selfdev("show", "other", status=2).stderr


def test_status_says_finished(selfdev: Selfdev, finished: Path) -> None:
    line = next(line for line in selfdev("status").stdout.splitlines() if "tiny" in line)
    assert "finished" in line


def test_report_is_written_where_asked(selfdev: Selfdev, finished: Path, tmp_path: Path) -> None:
    selfdev("report", "tiny", "--out", str(tmp_path / "r.html"))
    assert result_of(finished).winner in (tmp_path / "r.html").read_text()


def test_apply_uses_a_program_on_other_models_and_the_result_loads(
    selfdev: Selfdev, finished: Path, tmp_path: Path
) -> None:
    folder = family_folder("transfer")
    models = [f"--models={name}={folder / name}" for name in ("seed", "alpha", "beta")]
    selfdev("apply", "winner", *models, "--campaign", "tiny", "--out", str(tmp_path / "merged"))
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    seed = AutoModelForCausalLM.from_pretrained(folder / "seed")
    AutoTokenizer.from_pretrained(tmp_path / "merged")
    changed = [n for n, p in merged.named_parameters() if not p.equal(dict(seed.named_parameters())[n])]
    assert changed and all(".mlp." in name for name in changed)
    again = selfdev("apply", "winner", *models, "--campaign", "tiny", "--out", str(tmp_path / "merged"), status=2)
    assert "exists already" in again.stderr


def test_apply_takes_a_program_file_and_names_a_bad_one(selfdev: Selfdev, finished: Path, tmp_path: Path) -> None:
    folder = family_folder("arithmetic")
    models = [f"--models={name}={folder / name}" for name in ("seed", "alpha", "beta")]
    bad = tmp_path / "bad.py"
    bad.write_text("def merge_models(model_dict, device):\n    return None\n")
    told = selfdev("apply", str(bad), *models, "--out", str(tmp_path / "m"), status=2).stderr
    assert "wrong-type" in told and not (tmp_path / "m").exists()
    assert "NAME=FOLDER" in selfdev("apply", str(bad), "--models=seed", "--out", str(tmp_path / "m"), status=2).stderr


def test_export_writes_model_program_and_card(selfdev: Selfdev, finished: Path, tmp_path: Path) -> None:
    selfdev("export", "tiny", "--out", str(tmp_path / "winner"))
    assert (tmp_path / "winner" / "model" / "model.safetensors").is_file()
    assert "merge_models" in (tmp_path / "winner" / "program.py").read_text()
    card = (tmp_path / "winner" / "README.md").read_text()
    assert result_of(finished).winner in card and "| test |" in card


def test_init_writes_a_campaign_file_that_names_every_setting(selfdev: Selfdev, tmp_path: Path) -> None:
    selfdev("init", str(tmp_path / "c.yaml"))
    text = (tmp_path / "c.yaml").read_text()
    assert all(word in text for word in ("samples:", "p_w:", "temperature:", "memory_gb:", "# "))
    told = selfdev("run", str(tmp_path / "c.yaml"), status=2).stderr
    assert "models/seed" in told


def test_doctor_reports_sandbox_and_families(selfdev: Selfdev) -> None:
    output = selfdev("doctor").stdout
    assert "sandbox" in output and "miniature arithmetic" in output and "missing" not in output


def test_a_bad_campaign_file_is_refused_with_the_field_named(selfdev: Selfdev, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: bad\nmodels: {family: arithmetic}\nquestions: {family: arithmetic}\npreference: {p_w: 0.8, p_l: 0.5}\n"
    )
    told = selfdev("run", str(file), status=2).stderr
    assert "preference" in told and "p_w + p_l" in told and "Traceback" not in told
