from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ner.config import DATA_KEYS, MAY_CHANGE_ON_RESUME, PATH_KEYS, READING_KEYS, SOURCE_KEYS, Config, load_toml, to_toml, train_config
from ner.errors import InputError

EXPERIMENTS = sorted((Path(__file__).parent.parent / "experiments").glob("*.toml"))
MINILM = str(Path(__file__).parent.parent / "experiments" / "gmb_minilm.toml")
FIELDS = {field.name: field for field in dataclasses.fields(Config)}


def test_a_flag_beats_the_toml_and_the_toml_beats_the_default(tmp_path):
    toml = tmp_path / "x.toml"
    toml.write_text("rows = 7\nepochs = 9\n")
    config = train_config(["--config", str(toml), "--rows", "8", "--label-pieces", "all"])
    assert (config.rows, config.epochs, config.label_pieces, config.dropout) == (8, 9, "all", 0.3)


def test_a_whole_number_in_a_toml_is_the_same_setting_as_a_flag(tmp_path):
    toml = tmp_path / "x.toml"
    toml.write_text("layer_decay = 1\nrows = 1\n")
    config = train_config(["--config", str(toml)])
    assert type(config.layer_decay) is float and type(config.rows) is int
    assert dataclasses.replace(config, config=None) == train_config(["--layer-decay", "1", "--rows", "1"])


@pytest.mark.parametrize(("flags", "case"), [([], True), (["--case"], True), (["--no-case"], False), (["--case", "--no-case"], False)])
def test_a_switch_can_be_given_both_ways_whatever_the_toml_says(flags, case):
    assert train_config(["--config", MINILM, *flags]).case is case
    assert train_config(flags).case is (case if flags else None)


def test_a_data_flag_replaces_the_tomls_whole_data_source_but_not_the_seed_of_its_split(tmp_path):
    toml = tmp_path / "x.toml"
    toml.write_text('train = "a.conll"\nvalidation = "b.conll"\ndocuments = "file"\nencoding = "latin-1"\nepochs = 2\nsplit_seed = 7\n')
    assert load_toml(toml).train == str(tmp_path / "a.conll")
    config = train_config([f"--config={toml}", "--data", "x.jsonl"])
    assert (config.data, config.train, config.validation, config.documents, config.encoding) == ("x.jsonl", None, None, "marked", None)
    assert (config.epochs, config.split_seed) == (2, 7)


def test_resume_takes_the_configuration_of_the_run(tmp_path):
    (tmp_path / "config.toml").write_text("epochs = 11\n")
    assert train_config(["--resume", "--output", str(tmp_path)]).epochs == 11
    assert train_config(["--output", str(tmp_path)]).epochs == Config.epochs
    assert (
        train_config(["--resume", "--output", str(tmp_path / "new"), "--data", "x.conll"]).data == "x.conll"
    )  # a restart script's first start


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data = ''", ":1: data = '' is not valid"),
        ("epoch = 3", ":1: unknown key 'epoch'; did you mean 'epochs'?"),
        ("\nrows = 'a'", ":2: rows = 'a' is not valid; give a whole number"),
        ("rows = true", ":1: rows = True is not valid; give a whole number"),
        ("dropout = 'a'", ":1: dropout = 'a' is not valid; give a number"),
        ("gpus = 1.5", ":1: gpus = 1.5 is not valid; give a whole number"),
        ("case = 1", ":1: case = 1 is not valid; give true or false"),
        ("encoder = 1", ":1: encoder = 1 is not valid; give a text"),
        ("batching = 'fast'", ":1: batching = 'fast' is not valid; give one of packed, buckets, padded"),
        ("format = 'xml'", ":1: format = 'xml' is not valid; give one of csv, conll, jsonl, spans"),
        ("epochs = 1\nrows = 0", ":2: rows = 0 is out of range; give rows a value from 1 to 1,048,576"),
        ("dropout = nan", ":1: dropout = nan is out of range"),
        ("data = 'a; b'\ntrain = 'b'", ": both data and train/validation/test are given; give one corpus to split, or split files"),
        ("train = 'b'", ": train and validation files go together; give --validation too"),
        ("head = 'crf'\nlabel_pieces = 'all'", ": head = crf does not go with label_pieces = all"),
        ("rows", ": not valid TOML"),
        (b"encoder = '\xff'", ": not valid TOML"),
        (f"seed = {'1' * 5000}", ": not valid TOML"),
    ],
)
def test_a_bad_toml_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "x.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        load_toml(path)
    assert str(error.value).startswith(f"{path}{message}") and "\n" not in str(error.value)


def test_an_error_in_a_toml_keeps_its_parts(tmp_path):
    """A message with a semicolon in it is not taken for one with its hint."""
    path = tmp_path / "x.toml"
    path.write_text('encoder = "a; b\\u0000"')
    with pytest.raises(InputError) as error:
        load_toml(path)
    assert error.value.what == "encoder 'a; b\\x00' is not Unicode text"
    assert (error.value.hint, error.value.path, error.value.line) == ("rename the file, or give another name", path, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rowz", "3"], "there is no flag --rowz; did you mean --rows?"),
        (["--rowz=3"], "there is no flag --rowz; did you mean --rows?"),
        (["--row", "3"], "there is no flag --row; did you mean --rows?"),
        (["--no-cas"], "there is no flag --no-cas; did you mean --no-case?"),
        (["--learning_rate", "1"], "there is no flag --learning_rate; did you mean --learning-rate?"),
        (["--xyzzyx", "3"], "there is no flag --xyzzyx; see python "),
        (["stray"], "'stray' belongs to no flag; see python "),
        (["--rows"], "--rows: expected one argument; a value that starts with - is written --flag=-value"),
        (["--output", "-x"], "--output: expected one argument; a value that starts with - is written --flag=-value"),
        (["--data", ""], "--data '' is not valid; give a text"),
        (["--config="], "--config '' is not valid"),
        (["--case=yes"], "--case/--no-case"),
        (["--rows", "x"], "--rows 'x' is not valid; give a whole number"),
        (["--rows", "1.5"], "--rows '1.5' is not valid; give a whole number"),
        (["--gpus", "None"], "--gpus 'None' is not valid; give a whole number"),
        (["--dropout", "x"], "--dropout 'x' is not valid; give a number"),
        (["--batching", "fast"], "--batching 'fast' is not valid; give one of packed, buckets, padded"),
        (["--format", "xml"], "--format 'xml' is not valid; give one of csv, conll, jsonl, spans"),
        (["--rows", "0"], "rows = 0 is out of range; give rows a value from 1 to 1,048,576"),
        (["--learning-rate", "-1"], "learning_rate = -1.0 is out of range"),
        (["--warmup", "nan"], "warmup = nan is out of range"),
        (["--config", "/nowhere/x.toml"], "/nowhere/x.toml"),
        (["--validation", "x.csv"], "go together"),
        (["--rows", "3", "--accumulate", "4"], "micro-batches"),
        (["--learning-rate", "2", "--weight-decay", "1"], "learning_rate x weight_decay"),
        (["--head", "crf", "--label-pieces", "all"], "head = crf does not go with label_pieces = all"),
        (["--resume", "--overwrite"], "opposites"),
        (["--resume", "--output", "/nowhere/run"], "/nowhere/run: nothing to resume"),
        (["--cpu-replicas", "2", "--tpu", "local"], "--cpu-replicas goes with the CPU"),
        (["--data", "caf\udce9.csv"], "not Unicode"),
    ],
)
def test_a_bad_flag_is_refused_in_one_line(arguments, message):
    with pytest.raises(InputError) as error:
        train_config(arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_crf_head_goes_with_first_pieces():
    assert train_config(["--head", "crf"]).head == "crf"


RECIPE = {  # what most experiments have in common, whatever the defaults become
    "split_seed": 0,
    "unseen_tags": "refuse",
    "case": False,
    "head": "linear",
    "dropout": 0.3,
    "encoder_dropout": None,
    "compute_dtype": "auto",
    "batching": "packed",
    "context": "sentence",
    "rows": 16,
    "row_length": None,
    "accumulate": 1,
    "label_pieces": "first",
    "epochs": 3,
    "learning_rate": 1e-4,
    "schedule": "linear",
    "warmup": 0.1,
    "weight_decay": 0.01,
    "layer_decay": 1.0,
    "clip_norm": 1.0,
    "validate_every": 0,
    "patience": 0,
    "seed": 0,
}
RECIPES: dict[str, dict] = {
    "conll2003": {"encoder": "google-bert/bert-base-cased", "row_length": 128, "epochs": 5, "learning_rate": 5e-5},
    "gmb_bert_base": {"encoder": "google-bert/bert-base-uncased"},
    "gmb_roberta_base": {"encoder": "FacebookAI/roberta-base", "learning_rate": 5e-5},
    "gmb_xlm_roberta_base": {"encoder": "FacebookAI/xlm-roberta-base", "learning_rate": 5e-5},
    "gmb_minilm": {
        "encoder": "sentence-transformers/all-MiniLM-L6-v2",
        "case": True,
        "encoder_dropout": 0,
        "epochs": 2,
        "learning_rate": 4e-4,
    },
    "source_text": {
        "encoder": "google-bert/bert-base-uncased",
        "compute_dtype": "float32",
        "batching": "padded",
        "row_length": 384,
        "label_pieces": "all",
        "epochs": 1,
        "learning_rate": 3e-5,
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_an_experiment_is_what_its_results_were_made_with(name):
    path = next(path for path in EXPERIMENTS if path.stem == name)
    config = dataclasses.asdict(load_toml(path))
    expected = {**RECIPE, **RECIPES[name]}
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_an_experiment_writes_out_every_value_that_shapes_its_result(path):
    """So that a later change of a default does not change it. What is None is left to the checkpoint or the corpus."""
    written, config = tomllib.loads(path.read_text()), load_toml(path)
    assert config.encoder and (config.data or config.train)
    shaping = [name for name in FIELDS if name not in MAY_CHANGE_ON_RESUME] + ["encoder"]
    missing = [name for name in shaping if name not in written and getattr(Config, name) is not None]
    assert not missing


def test_every_key_is_described():
    for name, field in FIELDS.items():
        about = field.metadata
        assert about["help"].endswith("."), name
        assert (about["low"] is None) == (about["high"] is None), name
        numeric = str(field.type).split(" | ")[0] in ("int", "float")
        assert numeric == (about["low"] is not None), name
        if field.default is None:
            assert name in ("train", "validation", "test") or "ithout " in about["help"], f"{name}: what is chosen without it?"


def test_which_keys_a_resume_may_change():
    kept = [name for name in FIELDS if name not in MAY_CHANGE_ON_RESUME]
    assert sorted(kept) == sorted(set(RECIPE) - {"row_length"})
    assert DATA_KEYS == ("data", "train", "validation", "test")
    assert (*DATA_KEYS, *READING_KEYS) == SOURCE_KEYS
    assert READING_KEYS == ("format", "encoding", "documents", "word_column", "tag_column")
    assert (*DATA_KEYS, "config", "output") == PATH_KEYS


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
settings = st.builds(
    Config,
    data=names,
    encoder=names,
    output=st.none() | names,
    case=st.booleans(),
    rows=st.integers(1, 9),
    gpus=st.none() | st.integers(1, 9),
    learning_rate=st.floats(1e-9, 1),
)


@given(settings)
def test_the_configuration_written_to_a_run_reads_back(config):
    text = to_toml(config)
    assert Config(**tomllib.loads(text)) == config
    assert all(line.isprintable() for line in text.split("\n"))  # no control character of a file's name reaches a terminal
