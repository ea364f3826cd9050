"""Write the split that tutorials use of GMB: the first 90 % and the last 10 % of the sentences, ordered by their id as a string.

    python experiments/gmb_split.py ner_dataset.csv data/gmb

writes ``first90.jsonl`` (43,163 sentences) and ``last10.jsonl`` (4,796), which is what ``groupby("Sentence #")`` and a cut at 90 %
give; and, to choose an epoch without looking at the last 10 %, ``train.jsonl`` and ``held_back.jsonl``: the first 90 % without 1,000
sentences, and those.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ner import formats  # noqa: E402
from ner.errors import InputError, run_main  # noqa: E402

HELD_BACK = 1000
MEND = "give GMB's own ner_dataset.csv"


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        raise InputError("two arguments are needed", hint="python experiments/gmb_split.py ner_dataset.csv FOLDER")
    source, folder = arguments[0], Path(arguments[1])
    sentences = formats.read(source)
    ids = pd.read_csv(source, usecols=[0], dtype=str, keep_default_na=False, encoding="cp1252", encoding_errors="replace").iloc[:, 0]
    order = np.argsort(ids[ids != ""].to_numpy(dtype=str), kind="stable")
    if len(order) != len(sentences):
        raise InputError(f"{len(order):,} sentence ids for {len(sentences):,} sentences", path=source, hint=MEND)
    ordered = [sentences[i] for i in order]
    cut = int(0.9 * len(ordered))
    if cut <= HELD_BACK:
        raise InputError(f"only {len(ordered):,} sentences; {HELD_BACK:,} are held back", path=source, hint=MEND)
    held = set(np.random.Generator(np.random.Philox(key=0)).choice(cut, HELD_BACK, replace=False).tolist())
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in {
        "first90": ordered[:cut],
        "last10": ordered[cut:],
        "train": [s for i, s in enumerate(ordered[:cut]) if i not in held],
        "held_back": [s for i, s in enumerate(ordered[:cut]) if i in held],
    }.items():
        formats.write(folder / f"{name}.jsonl", part)
        print(f"{folder / name}.jsonl: {len(part):,} sentences")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
