"""The tokenizer of a model folder: its files, its special pieces, and whether it reads the space before a word."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers

from ner.errors import InputError

# A tokenizer's files: those of the fast form, and those that transformers makes one from.
SLOW = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", *SLOW)
# What the tokenizers of these families call the unknown and the padding piece where no file says so, as in a folder of vocab.json and
# merges.txt only.
UNKNOWN = ("<unk>", "[UNK]")
PADDING = ("<pad>", "[PAD]")


def read_tokenizer(folder: Path) -> Tokenizer:
    """``tokenizer.json``, or what transformers makes of the folder's tokenizer files where there is none or other options overrule it.

    Raises InputError where there are none, and for a tokenizer that runs in Python only.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            read = Tokenizer.from_file(str(folder / "tokenizer.json"))
            read.no_truncation()
            read.no_padding()
            if any(special_pieces(read)) and not overruled(read, folder):
                return read
        elif not any((folder / name).is_file() for name in SLOW):
            raise InputError(
                f"no tokenizer.json, {', '.join(SLOW[:-1])} or {SLOW[-1]}", path=folder, hint="use a complete checkpoint folder"
            )
        elif any(folder.glob("*.model")) and importlib.util.find_spec("sentencepiece") is None:
            what = "its tokenizer is a sentencepiece file only, and the package sentencepiece is not installed"
            raise InputError(what, path=folder, hint="pip install sentencepiece, or use a checkpoint with a tokenizer.json")
        from transformers import AutoTokenizer  # it knows tokenizer_class and its options; imported only here, it takes seconds

        slow = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if not hasattr(slow, "backend_tokenizer"):
            what = f"its tokenizer, {type(slow).__name__}, has no fast form"
            raise InputError(what, path=folder, hint="use a checkpoint with a tokenizer.json")
        slow.backend_tokenizer.no_truncation()
        slow.backend_tokenizer.no_padding()
        return slow.backend_tokenizer
    except InputError:
        raise
    except Exception as error:  # both libraries raise many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"the tokenizer cannot be read ({reason})", path=folder, hint="fetch the checkpoint again") from None


def overruled(tokenizer: Tokenizer, folder: Path) -> bool:
    """Whether tokenizer_config.json asks for something else than tokenizer.json does.

    The classes of transformers that build their tokenizer from its vocabulary and these options then go by them, and by their defaults.
    """
    settings = _settings(folder)
    if settings.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast"):  # they take tokenizer.json as it is
        return False
    if not isinstance(tokenizer.model, models.WordPiece):
        return reads_spaces(tokenizer) != settings.get("add_prefix_space", isinstance(tokenizer.model, models.Unigram))
    options = settings.get("tokenize_chinese_chars", True), settings.get("strip_accents"), settings.get("do_lower_case", True)
    asked = normalizers.BertNormalizer(True, *options)
    return str(tokenizer.normalizer) != str(asked)


def special_pieces(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The pieces that the tokenizer's own post-processing puts before a sentence, and behind it."""
    inside = tokenizer.encode(["a"], is_pretokenized=True, add_special_tokens=False).ids
    whole = tokenizer.encode(["a"], is_pretokenized=True).ids
    begin = next(i for i in range(len(whole) + 1) if whole[i : i + len(inside)] == inside)
    return whole[:begin], whole[begin + len(inside) :]


def unknown_piece(tokenizer: Tokenizer, folder: Path) -> int:
    """The id of the piece for what the tokenizer makes nothing of: the model's own, else the one that the folder's settings name.

    Else one of UNKNOWN.
    """
    if isinstance(tokenizer.model, models.Unigram):  # which tells its own only there
        own = json.loads(tokenizer.to_str())["model"].get("unk_id")
        if own is not None:
            return own
    for name in (getattr(tokenizer.model, "unk_token", None), _text_of(_settings(folder).get("unk_token")), *UNKNOWN):
        if name and (number := tokenizer.token_to_id(name)) is not None:
            return number
    raise InputError("the tokenizer has no unknown piece", path=folder, hint="name one as unk_token in tokenizer_config.json")


def padding_piece(tokenizer: Tokenizer, folder: Path, configured: Any) -> int:
    """The id of the piece that other programs fill rows with (rows here are filled with 0).

    config.json's, else the one that the folder's settings name, else one of PADDING.
    """
    if type(configured) is int and 0 <= configured < 2**32 and tokenizer.id_to_token(configured) is not None:
        return configured
    numbers = (tokenizer.token_to_id(name) for name in (_text_of(_settings(folder).get("pad_token")), *PADDING) if name)
    return next((number for number in numbers if number is not None), 0)


def _settings(folder: Path) -> dict:
    """What the folder's settings of the tokenizer say: special_tokens_map.json and tokenizer_config.json, which goes before."""
    found: dict = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            try:
                content = json.loads((folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise InputError(f"cannot be read ({error})", path=folder / name, hint="fetch the checkpoint again") from None
            found |= content if isinstance(content, dict) else {}
    return found


def _text_of(token: Any) -> str | None:
    """The text of a special token, which settings give as a string or as an object; None if it is neither."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def reads_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a word that is given alone has the pieces that it has behind another one in a text."""
    alone = tokenizer.encode(["a"], is_pretokenized=True, add_special_tokens=False).ids
    return tokenizer.encode("a a", add_special_tokens=False).ids == alone * 2


def with_spaces(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with a space put before each word, where it does not do so by itself."""
    content = json.loads(tokenizer.to_str())
    for part in (content["pre_tokenizer"] or {}, content["post_processor"] or {}):
        if part.get("type") in ("ByteLevel", "RobertaProcessing"):
            part["add_prefix_space"] = True
    if (content["pre_tokenizer"] or {}).get("type") != "ByteLevel":  # such as one of sentencepiece's kind, which makes a sign of each space
        steps = [{"type": "Prepend", "prepend": " "}, content["normalizer"]]
        content["normalizer"] = {"type": "Sequence", "normalizers": [step for step in steps if step]}
    return Tokenizer.from_str(json.dumps(content))
