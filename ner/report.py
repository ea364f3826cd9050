"""Evaluation files: predictions word by word, scores as JSON, and one HTML page to read the errors in.

Files are replaced as a whole: a reader sees the old file or the new one, never half of one.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from ner import files
from ner.errors import InputError, printable
from ner.scoring import ERROR_CLASSES, MODE, STRICT_MODE, Evaluation, Pairing, PerWord
from ner.sentences import Sentence, entity_spans


def check_target(path: str | None) -> None:
    """Refuse, before the work, a report file that could not be written after it."""
    if path is None or (files.is_stream(path) and os.access(path, os.W_OK)):
        return
    target = Path(os.path.realpath(path))
    parent = next(folder for folder in target.parents if folder.exists())
    if target.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        what = "is a folder" if target.is_dir() else f"cannot be written: {str(parent)!r} is no folder that you may write to"
        raise InputError(what, hint="name a file in a folder you may write to", path=path)


def write_predictions(path: str | os.PathLike, words: PerWord, gold: PerWord, predicted: PerWord) -> None:
    """Write one ``word gold predicted`` line per word, an empty line after each sentence, in the order given.

    The arguments are sentences, each a list of strings, one per word.
    White space inside a field is written as ``_``, and so is an empty field: a line always has three columns, whichever
    white space a reader parts at.

    Raises:
        InputError: the file cannot be written.
    """
    lines = []
    for sentence in zip(words, gold, predicted, strict=True):
        lines += [" ".join(map(field, row)) for row in zip(*sentence, strict=True)]
        lines.append("")
    _write(path, "".join(f"{line}\n" for line in lines))


def write_json(path: str | os.PathLike, mapping: Mapping) -> None:
    """Write ``mapping`` as JSON, floats in full.

    Raises:
        InputError: the file cannot be written.
        ValueError: a number is not finite, which JSON cannot say.
    """
    _write(path, json.dumps(mapping, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: str | os.PathLike, records: Sequence[Mapping]) -> None:
    """Write a JSON object a line.

    Raises:
        InputError: the file cannot be written.
    """
    _write(path, "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records))


def write_annotation_html(path: str | os.PathLike, records: Sequence[Mapping], sentences: Sequence[Sentence], details: Mapping) -> None:
    """Write one self-contained page with the annotations in doubt, to filter, to decide and to export.

    records: of ``ner.annotation``; sentences: of the whole corpus; details: lines about the check.

    Raises:
        InputError: the file cannot be written.
    """
    places = sorted({record["sentence"] for record in records})
    spans = {number: entity_spans(sentences[number].tags) for number in places}
    title = "Annotations in doubt"
    data = {
        "title": title,
        "details": dict(details),
        "types": sorted({tag[2:] for sentence in sentences for tag in sentence.tags if tag != "O"}),
        "items": list(records),
        "sentences": {
            number: {
                "words": sentences[number].words,
                "entities": [dict(zip(("type", "start_word", "end_word"), s, strict=True)) for s in found],
            }
            for number, found in spans.items()
        },
        "id": hashlib.blake2b(json.dumps([*records], sort_keys=True).encode(), digest_size=8).hexdigest(),
    }
    write_page(path, "annotation.html", title, data)


def write_html(path: str | os.PathLike, evaluation: Evaluation, *, title: str, details: Mapping[str, str] | None = None) -> None:
    """Write one self-contained page: scores, confusion, error classes and every sentence, with filters and search.

    The page fetches nothing: its content security policy admits its own style and script and forbids the rest. The
    filters are kept in its address: ``report.html#type=geo&error=missed&q=london``.

    Args:
        evaluation: what is shown; its confidence, if it has one, adds an order by confidence.
        details: lines about the run, shown as they are.

    Raises:
        InputError: the file cannot be written.
    """
    labels, matrix = evaluation.confusion
    sure: Sequence[Sequence[float] | None] = evaluation.confidence or [None] * len(evaluation.words)
    data = {
        "title": title,
        "details": dict(details or {}),
        "scores": evaluation.scores.as_dict(),
        "mode": MODE,
        "strictMode": STRICT_MODE,
        "errors": evaluation.errors,
        "confusion": {"labels": labels, "matrix": matrix.tolist()},
        "hasConfidence": evaluation.confidence is not None,
        "sentences": [
            [words, [_compact(pairing, confidence) for pairing in pairings]]
            for words, pairings, confidence in zip(evaluation.words, evaluation.pairings, sure, strict=True)
        ],
    }
    write_page(path, "report.html", title, data)


def write_page(path: str | os.PathLike, template: str, title: str, data: Mapping) -> None:
    """Write a page of ``ner/TEMPLATE`` that shows ``data``, which its script reads as JSON; style and script are in it.

    Raises:
        InputError: the file cannot be written.
    """
    folder = resources.files("ner")
    text = folder.joinpath(template).read_text("utf-8")
    for name, file in (("style", "page.css"), ("script", "page.js")):
        text = text.replace(f"{{{{{name}}}}}", folder.joinpath(file).read_text("utf-8"))
    parts = {
        "title": html.escape(printable(title)),
        "policy": _policy(text),
        # ASCII, so U+2028 and unpaired surrogates are escaped too; no "<", so nothing in it can end the script element.
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    }
    _write(path, re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], text))


def field(text: str) -> str:
    """``text`` as one column of a CoNLL file: white space (all that ``str.split`` parts at) and nothing become ``_``."""
    return re.sub(r"\s", "_", text) or "_"


def _compact(pairing: Pairing, confidence: Sequence[float] | None) -> list:
    """``[class, gold, predicted]``, shortened to ``[0, gold]`` where correct.

    With ``confidence`` its minimum over the words of the predicted entity, or of the missed one, comes last: how sure the
    model was of what it did there.
    """
    error, gold, predicted = pairing
    record: list = [ERROR_CLASSES.index(error), gold, None if error == "correct" else predicted]
    if confidence is None:
        return record[:2] if error == "correct" else record
    span = predicted or gold
    assert span is not None  # a pairing has at least one
    return [*record, round(float(min(confidence[span[1] : span[2]])), 3)]


def _policy(template: str) -> str:
    """The content security policy of the page: its own style and script, known by their hashes, and nothing else."""

    def source(element: str) -> str:
        text = re.findall(rf"<{element}>(.*?)</{element}>", template, re.DOTALL)[0]
        return f"{element}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return f"default-src 'none'; {source('style')}; {source('script')}; base-uri 'none'; form-action 'none'"


def _write(path: str | os.PathLike, text: str) -> None:
    """Replace the file ``path`` by ``text``. Missing folders are made."""
    try:
        files.write(path, text)
    except UnicodeEncodeError as error:
        what = f"cannot hold the character U+{ord(error.object[error.start]):04X}, half of a surrogate pair"
        raise InputError(what, hint="take it out of the data", path=path) from None
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise InputError(what, hint="name a file in a folder you may write to", path=path) from None
