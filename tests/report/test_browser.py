"""The page in a real browser: nothing runs off a phone's side, and the console stays silent."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from synthetic import unfinished

from selfdev_core.report import render_report
from selfdev_core.result import CampaignResult

pytestmark = pytest.mark.slow

# The report forbids scripts, so a page round it measures it, in a frame as wide as the screen to be tried.
MEASURE = """<!DOCTYPE html><body style="margin:0"><iframe id="f" src="report.html"
 style="width:{width}px;height:9000px;border:0"></iframe><pre id="out">none</pre><script>
addEventListener("load", () => {{
  const d = document.getElementById("f").contentDocument, w = {width};
  const inner = (e) => {{ for (let p = e; p; p = p.parentElement)
    if (p.matches("pre, .scroll, .hidden, thead")) return true; return false; }};
  const over = [...d.body.querySelectorAll("*")].filter(e => !inner(e) && e.getBoundingClientRect().right > w + 0.5);
  document.getElementById("out").textContent =
    "scroll=" + d.documentElement.scrollWidth + " over=" + over.slice(0, 5).map(e => e.tagName + "." + e.className);
}});
</script></body>"""


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    pytest.fail("no chromium on PATH: install it (Debian: apt-get install chromium) to test the report in a browser")


def look(folder: Path, html: str, width: int) -> tuple[str, str]:
    """What the measuring page found, and what the browser wrote to its console."""
    (folder / "report.html").write_text(html, encoding="utf-8")
    (folder / "measure.html").write_text(MEASURE.format(width=width), encoding="utf-8")
    done = subprocess.run(
        [
            chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            "--allow-file-access-from-files", "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}",
            f"--window-size={max(width, 500)},900", "--virtual-time-budget=10000", "--dump-dom",
            (folder / "measure.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout)
    assert found, f"the browser gave no page: {done.stderr[-2000:]}"
    return found.group(1), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize("width", [320, 390, 820, 1400])
def test_fits_every_screen_without_a_word_on_the_console(finished: CampaignResult, tmp_path: Path, width: int) -> None:
    measured, console = look(tmp_path, render_report(finished), width)
    assert measured == f"scroll={width} over="
    assert console == ""


def test_long_hostile_names_do_not_widen_the_page(finished: CampaignResult, tmp_path: Path) -> None:
    board = tuple(c.model_copy(update={"label": "x" * 5000}) for c in finished.leaderboard)
    update = {"name": "y" * 5000, "leaderboard": board, "config": {"z" * 500: "z" * 5000}}
    measured, console = look(tmp_path, render_report(finished.model_copy(update=update)), 390)
    assert (measured, console) == ("scroll=390 over=", "")


def test_a_campaign_in_progress_fits_a_phone(tmp_path: Path) -> None:
    measured, console = look(tmp_path, render_report(unfinished(12, ("trained", "untrained"))), 390)
    assert (measured, console) == ("scroll=390 over=", "")
