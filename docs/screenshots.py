"""Take the pictures of this folder anew, with Chromium: python docs/screenshots.py RUNS_FOLDER REPORT.html

RUNS_FOLDER is what TensorBoard shows (``runs``), REPORT.html is of ``evaluate.py --html``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from tensorboard import program

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from browser import Browser  # noqa: E402

TABS = {"scalars": "#timeseries", "confusion": "#images", "worst": "#text&tagFilter=worst", "hparams": "#hparams"}
SIZE = {"width": 1400, "height": 900}


def main(runs: str, report: str) -> None:
    board = program.TensorBoard()
    board.configure(argv=["", "--logdir", runs, "--host", "localhost", "--port", "0", "--load_fast", "false"])
    address = board.launch()
    pages = {f"tensorboard_{name}": f"{address}{tab}" for name, tab in TABS.items()}
    pages["report"] = Path(report).resolve().as_uri()
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(shutil.which("chromium") or "google-chrome", Path(profile))
        browser.call("Emulation.setDeviceMetricsOverride", **SIZE, deviceScaleFactor=1, mobile=False)
        for name, page in pages.items():
            browser.open(page)
            time.sleep(8)  # until all is drawn
            browser.screenshot(HERE / f"{name}.png", **SIZE)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
