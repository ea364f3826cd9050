"""Find the entities in text: python predict.py --help"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from ner.config import DataType
from ner.errors import InputError, printable, run_main
from ner.flags import REQUIRED, key, parse

if TYPE_CHECKING:
    from ner.inference import Tagged

CHUNK = 1000  # lines tagged at a time, so memory does not grow with the input
LONGEST = 10 * CHUNK  # lines of a paragraph that are tagged together
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Tag text with a trained model: one tag per word, and the entities with character offsets and scores."""

    ckpt: str = key(REQUIRED, "A run folder, its model/, or any Hugging Face folder for token classification.", path=True)
    text: tuple[str, ...] = key((), "Texts to tag.", positional=True)
    input: str | None = key(None, "A UTF-8 text file to tag line by line; - reads standard input.", path=True)
    min_score: float = key(0.0, "Leave out entities with a lower score (evaluate.py --precision finds one).", low=0, high=1)
    pre_split: bool = key(False, "Split words at white space only. Otherwise punctuation is split off too, by the rules of GMB.")
    format: Literal["table", "jsonl", "conll"] = key(
        "table", "table: for people; jsonl (one object a line) and conll (one line `word tag` a word): for programs."
    )
    context: Literal["sentence", "document"] | None = key(
        None,
        "sentence: read each text alone; document: read the lines of a paragraph of --input together (an empty line ends it). Without "
        "it: as the model was trained.",
    )
    engine: Literal["tensorflow", "onnx"] | None = key(
        None, "What computes: tensorflow, or onnx for a folder of export.py --int8. Without it: what the folder is for."
    )
    compute_dtype: DataType = key("auto", "Number type of the matrix products. auto: what training used, if the device has it.")


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    if bool(given.text) == bool(given.input):
        raise InputError("give texts or --input, one of them", hint='python predict.py --ckpt runs/x "alex lives in london"')
    from ner.inference import Tagger, model_folder
    from ner.strategy import import_tensorflow

    model_folder(given.ckpt)
    for text in given.text:
        if os.path.isfile(text):
            print(f"warning: {text!r} is read as a text, and is a file; --input {text} tags its lines", file=sys.stderr)
    lines = read_lines(given.input) if given.input else iter(given.text)
    chunk = list(itertools.islice(lines, CHUNK))  # an unreadable input is refused before the model is loaded
    import_tensorflow()
    tagger = Tagger.load(given.ckpt, compute_dtype=given.compute_dtype, context=given.context, engine=given.engine)
    write = {"table": write_table, "jsonl": write_jsonl, "conll": write_conll}[given.format]
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may not know every character
    together = bool(given.input) and tagger.context == "document"
    for texts in chunks(itertools.chain(chunk, lines), longest=LONGEST if together else CHUNK):
        for tagged in tagger(texts, split_at_white_space=given.pre_split, documents=paragraphs(texts) if together else None):
            write(confident(tagged, given.min_score) if given.min_score else tagged)
        sys.stdout.flush()
    if tagger.cut_words:
        print(f"warning: of {tagger.cut_words} long words only the first word pieces were read", file=sys.stderr)
    if tagger.context == "document" and not tagger.neighbours:
        print("warning: the model reads neighbouring sentences, and no text has any (lines of a paragraph of --input)", file=sys.stderr)
    return 0


def confident(tagged: Tagged, least: float) -> Tagged:
    """Without the entities of a lower score: their words become O."""
    from ner.scoring import confident as without

    entities = [entity for entity in tagged.entities if entity.score >= least]
    return dataclasses.replace(tagged, tags=without(tagged.tags, tagged.scores, least), entities=entities)


def chunks(lines: Iterator[str], *, longest: int) -> Iterator[list[str]]:
    """The lines, CHUNK or a few more at a time: up to the end of the paragraph, if the chunk is then no more than ``longest`` lines."""
    chunk = []
    for line in lines:
        chunk.append(line)
        if len(chunk) >= longest or (len(chunk) >= CHUNK and not line.strip()):
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def paragraphs(texts: list[str]) -> list[str]:
    """The paragraph of each text, by number; "" for a text that is empty or white space, which ends one."""
    ends = itertools.accumulate(int(not text.strip()) for text in texts)
    return [str(number) if text.strip() else "" for number, text in zip(ends, texts, strict=True)]


def read_lines(path: str) -> Iterator[str]:
    """Lines of a file or of standard input (``-``), without their ends; a byte that is not UTF-8 is refused with its line."""
    try:
        with sys.stdin.buffer if path == "-" else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield line.rstrip(b"\r\n").decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(f"not UTF-8 ({error.reason})", path=path, line=number, hint="convert the file to UTF-8") from None
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", path=path, hint="give --input a text file") from None


def write_table(tagged: Tagged) -> None:
    """One row a word with its tag and score, then one row an entity; coloured by type on a terminal."""
    from rich.table import Column, Table
    from rich.text import Text

    from ner.progress import console

    words = Table(Column("word", overflow="fold"), "tag", "score", box=None, pad_edge=False)
    for word, tag, score in zip(tagged.words, tagged.tags, tagged.scores, strict=True):
        words.add_row(Text(printable(word), style=_colour(tag)), Text(tag, style=_colour(tag)), f"{score:.4f}")
    console.print(words)
    entities = Table(Column("entity", overflow="fold"), "type", "characters", "score", box=None, pad_edge=False)
    for entity in tagged.entities:
        style = _colour(entity.type)
        entities.add_row(
            Text(printable(entity.text), style=style), Text(entity.type, style=style), f"{entity.start}-{entity.end}", f"{entity.score:.4f}"
        )
    console.print(entities if tagged.entities else "no entities")
    console.print()


def write_jsonl(tagged: Tagged) -> None:
    """One object a line: text, entities (each start, end, text, type, score; characters of ``text``), words, tags."""
    entities = [dataclasses.asdict(entity) for entity in tagged.entities]
    record = {"text": tagged.text, "entities": entities, "words": tagged.words, "tags": tagged.tags}
    sys.stdout.write(json.dumps(record) + "\n")


def write_conll(tagged: Tagged) -> None:
    """``word tag`` lines and a blank line; white space inside a word is written as ``_``."""
    from ner.report import field

    sys.stdout.write("".join(f"{field(word)} {field(tag)}\n" for word, tag in zip(tagged.words, tagged.tags, strict=True)) + "\n")


def _colour(tag: str) -> str:
    """A colour for an entity type, the same in every run; none outside entities."""
    kind = tag.removeprefix("B-").removeprefix("I-")
    return "" if kind == "O" else COLOURS[sum(kind.encode()) % len(COLOURS)]


if __name__ == "__main__":
    sys.exit(run_main(main))
