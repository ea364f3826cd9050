"""The first run a newcomer makes: `make quickstart` finds the person and the place in everyday sentences that it was not trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ner import formats
from ner.config import load_toml
from ner.sentences import Sentence, entity_spans
from ner.words import tokenize

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "experiments" / "quickstart.toml"
# Each holds one person and one place. Keep their names and templates out of the sample: they measure what the model does with new text.
SENTENCES = [
    ("alex lives in london", "alex", "london"),
    ("tom works in chicago", "tom", "chicago"),
    ("my friend emma moved to berlin", "emma", "berlin"),
    ("did lucas fly to rome", "lucas", "rome"),
    ("sarah is from dublin", "sarah", "dublin"),
    ("maria was born in madrid.", "maria", "madrid"),
    ("where in paris does julia stay?", "julia", "paris"),
    ("call daniel when you get to vienna.", "daniel", "vienna"),
    ("our teacher, oliver, grew up in boston.", "oliver", "boston"),
    ("anna sent me a postcard from athens.", "anna", "athens"),
    ("Peter Miller has a flat in Amsterdam", "Peter Miller", "Amsterdam"),
    ("On the way to Prague Laura lost her phone", "Laura", "Prague"),
    ("Hannah studies medicine in Edinburgh", "Hannah", "Edinburgh"),
    ("Mark opened a small bakery in Lisbon", "Mark", "Lisbon"),
    ("There is a letter for David from New York", "David", "New York"),
    ("Emily Clarke teaches children in Toronto.", "Emily Clarke", "Toronto"),
    ("Is Michael still waiting at the station in Munich?", "Michael", "Munich"),
    ('"I met Nina in Budapest," she said.', "Nina", "Budapest"),
    ("Please tell James that the train to Brussels is late.", "James", "Brussels"),
    ("Chris cannot come because he is ill in Sydney.", "Chris", "Sydney"),
]


def read_sample() -> dict[str, list[Sentence]]:
    config = load_toml(QUICKSTART)
    return {"train": formats.read(config.train), "validation": formats.read(config.validation)}


def words_of(text: str) -> str:
    """The words in small letters with a space on both sides of each, so that `in` compares whole words."""
    return f" {' '.join(word for word, _, _ in tokenize(text)).lower()} "


def template_of_text(text: str, person: str, place: str) -> str:
    template = words_of(text).replace(words_of(person), " PERSON ").replace(words_of(place), " PLACE ")
    return " " + template.strip(' .?"') + " "


def template_of_sentence(sentence: Sentence) -> str:
    words: list[str | None] = [word.lower() for word in sentence.words]
    for kind, first, end in entity_spans(sentence.tags):
        if kind in ("per", "geo"):
            words[first:end] = ["PERSON" if kind == "per" else "PLACE", *[None] * (end - first - 1)]
    return f" {' '.join(word for word in words if word is not None)} "


def test_the_sample_holds_no_name_and_no_template_of_the_twenty_sentences():
    assert template_of_text("alex lives in london", "alex", "london") == " PERSON lives in PLACE "
    names = {words_of(name) for _, person, place in SENTENCES for name in [*person.split(), place]}
    templates = {template_of_text(*sentence) for sentence in SENTENCES}
    for split, sentences in read_sample().items():
        for sentence in sentences:
            text, template = f" {' '.join(sentence.words).lower()} ", template_of_sentence(sentence)
            assert not [name for name in names if name in text], (split, text)
            assert not [known for known in templates if known in template], (split, text)


def test_training_has_every_tag_and_validation_mostly_new_names():
    sample = read_sample()
    assert len({tag for sentence in sample["train"] for tag in sentence.tags}) == 17
    assert not {tuple(s.words) for s in sample["train"]} & {tuple(s.words) for s in sample["validation"]}
    assert not {template_of_sentence(s) for s in sample["train"]} & {template_of_sentence(s) for s in sample["validation"]}

    def entities(split: str) -> list[tuple[str, str]]:
        """(type, name in small letters) of each entity, repeated as often as it occurs."""
        return [(kind, " ".join(s.words[a:b]).lower()) for s in sample[split] for kind, a, b in entity_spans(s.tags)]

    known, validation = set(entities("train")), entities("validation")
    people = [entity for entity in validation if entity[0] == "per"]
    assert len(people) >= 100
    assert not set(people) & known
    assert sum(entity not in known for entity in validation) > 0.7 * len(validation)


def test_no_sentence_of_the_sample_is_a_line_of_gmb(gmb):
    known = {" ".join(sentence.words).lower() for sentence in formats.read(gmb)}
    for sentences in read_sample().values():
        assert not [sentence for sentence in sentences if " ".join(sentence.words).lower() in known]


def run(script: str, *arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, script, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_quickstart_finds_the_person_and_the_place(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"{text}\n" for text, _, _ in SENTENCES))
    run("train.py", "--config", QUICKSTART, "--output", tmp_path / "run")
    lines = run("predict.py", "--ckpt", tmp_path / "run", "--input", texts, "--format", "jsonl").splitlines()

    lowest = {}  # the lower of the two scores; 0 where one is not found
    for (text, person, place), line in zip(SENTENCES, lines, strict=True):
        scores = {(entity["type"], entity["text"]): entity["score"] for entity in json.loads(line)["entities"]}
        lowest[text] = min(scores.get(("per", person), 0.0), scores.get(("geo", place), 0.0))
    assert lowest["alex lives in london"] > 0.8
    assert sum(score > 0.8 for score in lowest.values()) >= 18, lowest
