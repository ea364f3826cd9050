"""What a model gets wrong on test, and how much of it the annotation itself leaves open: results/errors.json, for tables.py.

    python experiments/errors.py --data ner_dataset.csv --predictions runs/grid/this_loop-0-COMMIT/test.conll

The predictions are of evaluate.py. The annotation is judged by sentences that stand in the corpus more than once: every two copies are
two annotations of one text, and the F1 of one against the other is their agreement A. If each is the truth with errors of its own, a
model that always finds the truth is scored about the square root of A: the ceiling. (A sentence that stands n times makes n (n - 1) / 2
pairs.)
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.worker import read_conll  # noqa: E402
from ner import dataset, files, scoring  # noqa: E402
from ner.config import Config  # noqa: E402
from ner.sentences import Sentence  # noqa: E402

RECORD = HERE / "results" / "errors.json"
MOST = 10  # names shown of each type


def agreement(sentences: list[Sentence]) -> dict:
    """How the copies of a sentence agree: pairs of copies, those whose tags differ, and the F1 of one copy against the other."""
    copies = defaultdict(list)
    for sentence in sentences:
        copies[tuple(sentence.words)].append(sentence.tags)
    pairs = [pair for tags in copies.values() for pair in itertools.combinations(tags, 2) if {*pair[0], *pair[1]} != {"O"}]
    f1 = scoring.score([a for a, _ in pairs], [b for _, b in pairs]).f1
    return {"pairs": len(pairs), "differing": sum(a != b for a, b in pairs), "f1": f1, "ceiling": f1**0.5}


def confused_names(evaluation: scoring.Evaluation) -> dict[str, list]:
    """For each type the names most often not found as annotated, and what they were taken for: [name, taken for, times]."""
    found: dict[str, Counter] = defaultdict(Counter)
    for words, pairings in zip(evaluation.words, evaluation.pairings, strict=True):
        for pairing in pairings:
            if pairing.gold and pairing.error != "correct":
                kind, start, end = pairing.gold
                taken = pairing.predicted
                of = taken[0] if taken else "none"
                if taken and taken[1:] != (start, end):
                    of += f" {' '.join(words[slice(*taken[1:])])!r}"
                found[kind][" ".join(words[start:end]), of] += 1
    return {
        kind: [[*names, times] for names, times in sorted(found[kind].items(), key=lambda x: (-x[1], x[0]))[:MOST]]
        for kind in sorted(found)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--predictions", type=Path, required=True, help="word gold predicted lines, of evaluate.py")
    given = parser.parse_args()
    sentences = dataset.read(given.data, Config(data=given.data), print)
    words, gold, predicted = ([[line[i] for line in lines] for lines in read_conll(given.predictions)] for i in range(3))
    evaluation = scoring.Evaluation(words, gold, predicted)
    labels, matrix = evaluation.confusion
    record = {
        "run": given.predictions.parent.name,
        "errors": evaluation.errors,
        "confusion": {"labels": labels, "matrix": matrix.tolist()},
        "names": confused_names(evaluation),
        "agreement": agreement(sentences),
    }
    files.write(RECORD, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
