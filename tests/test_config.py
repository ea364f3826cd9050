from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ner.config import Config, load_toml, to_toml, train_config
from ner.errors import InputError

EXPERIMENTS = sorted((Path(__file__).parent.parent / "experiments").glob("*.toml"))


def test_a_flag_beats_the_toml_and_the_toml_beats_the_default(tmp_path):
    toml = tmp_path / "x.toml"
    toml.write_text("rows = 7\nepochs = 9\n")
    config = train_config(["--config", str(toml), "--rows", "8", "--label-pieces", "all"])
    assert (config.rows, config.epochs, config.label_pieces, config.dropout) == (8, 9, "all", 0.3)


def test_a_data_flag_replaces_the_tomls_whole_data_source(tmp_path):
    toml = tmp_path / "x.toml"
    toml.write_text('train = "a.conll"\nvalidation = "b.conll"\nformat = "conll"\nencoding = "latin-1"\nepochs = 2\n')
    assert load_toml(toml).train == str(tmp_path / "a.conll")
    config = train_config([f"--config={toml}", "--data", "x.jsonl"])
    assert (config.data, config.train, config.validation, config.format, config.encoding) == ("x.jsonl", None, None, None, None)
    assert config.epochs == 2


def test_resume_takes_the_configuration_of_the_run(tmp_path):
    (tmp_path / "config.toml").write_text("epochs = 11\n")
    assert train_config(["--resume", "--output", str(tmp_path)]).epochs == 11
    assert train_config(["--output", str(tmp_path)]).epochs == Config.epochs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "x.toml:1: unknown key 'epoch'; did you mean 'epochs'?"),
        ("\nrows = 'a'", "x.toml:2: rows = 'a' has the wrong type; give it a int"),
        ("rows = true", "x.toml:1: rows = True has the wrong type"),
        ("batching = 'fast'", "x.toml:1: batching = 'fast' has the wrong type"),
        ("rows = 0", "rows = 0 is out of range"),
        ("dropout = nan", "dropout = nan is out of range"),
        ("data = 'a'\ntrain = 'b'", "both data and train/validation/test are given"),
        ("train = 'b'", "train and validation files go together"),
        ("rows", "not valid TOML"),
    ],
)
def test_a_bad_toml_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_toml(path)
    assert message in str(error.value) and "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rowz", "3"], "--rows"),
        (["--rows", "x"], "--rows"),
        (["--batching", "fast"], "fast"),
        (["--rows", "0"], "rows = 0 is out of range"),
        (["--config", "/nowhere/x.toml"], "/nowhere/x.toml"),
        (["--validation", "x.csv"], "go together"),
        (["--rows", "3", "--accumulate", "4"], "micro-batches"),
        (["--resume", "--overwrite"], "opposites"),
        (["--cpu-replicas", "2", "--tpu", "local"], "--cpu-replicas goes with the CPU"),
        (["--data", "caf\udce9.csv"], "not Unicode"),
    ],
)
def test_a_bad_flag_is_refused_in_one_line(arguments, message):
    with pytest.raises(InputError) as error:
        train_config(arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_the_shipped_experiments_load(path):
    config = load_toml(path)
    assert config.encoder and (config.data or config.train)


def test_every_key_has_help():
    source = Path(__file__).parent.parent.joinpath("ner/config.py").read_text()
    for field in dataclasses.fields(Config):
        assert f"    {field.name}: " in source
        after = source.split(f"    {field.name}: ", 1)[1].split("\n")[1]
        assert after.strip().startswith('"""'), field.name


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(st.builds(Config, data=names, encoder=names, rows=st.integers(1, 9), learning_rate=st.floats(1e-9, 1)))
def test_the_configuration_written_to_a_run_reads_back(config):
    import tomllib

    values = tomllib.loads(to_toml(config))
    assert Config(**values) == config
