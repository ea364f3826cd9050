"""Find the entities in text: python predict.py --help"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterator
from typing import Literal

from ner.config import DataType
from ner.errors import InputError, run_main
from ner.flags import REQUIRED, key, parse

CHUNK = 1000  # lines tagged at a time, so memory does not grow with the input


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Tag text with a trained model: one tag per word, and the entities with character offsets and scores."""

    ckpt: str = key(REQUIRED, "A run folder, its model/, or any Hugging Face token-classification folder of a BERT.", path=True)
    text: tuple[str, ...] = key((), "Texts to tag.", positional=True)
    input: str | None = key(None, "A UTF-8 text file to tag line by line; - reads standard input.", path=True)
    pre_split: bool = key(False, "Split words at white space only. Otherwise punctuation is split off too, as in the corpus.")
    format: Literal["table", "jsonl", "conll"] = key(
        "table", "table: for people; jsonl (one object a line) and conll (one line `word tag` a word): for programs."
    )
    compute_dtype: DataType = key("auto", "Number type of the matrix products. auto: what training used, if the device has it.")


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    if bool(given.text) == bool(given.input):
        raise InputError("give texts or --input, one of them", hint='python predict.py --ckpt runs/x "alex lives in london"')
    from ner.inference import Tagger, model_folder
    from ner.strategy import import_tensorflow

    model_folder(given.ckpt)
    lines = read_lines(given.input) if given.input else iter(given.text)
    first = list(itertools.islice(lines, CHUNK))  # an unreadable input is refused before the model is loaded
    import_tensorflow()
    from ner import rendering

    tagger = Tagger.load(given.ckpt, compute_dtype=given.compute_dtype)
    write = {"table": rendering.table, "jsonl": rendering.jsonl, "conll": rendering.conll}[given.format]
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may not know every character
    while first:
        for tagged in tagger(first, split_at_white_space=given.pre_split):
            write(tagged)
        sys.stdout.flush()
        first = list(itertools.islice(lines, CHUNK))
    if tagger.cut_words:
        print(f"warning: of {tagger.cut_words} long words only the first word pieces were read", file=sys.stderr)
    return 0


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


if __name__ == "__main__":
    sys.exit(run_main(main))
