"""Bad input at the real entry points: one line, exit status 2, no output folder left behind."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ner.config import load_toml
from ner.errors import InputError, RunStopped, run_main

ROOT = Path(__file__).parent.parent
GOOD = "Sentence #,Word,Tag\nSentence: 1,Alex,B-per\n,sings,O\nSentence: 2,London,B-geo\n"


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True)


def refused(done, *parts):
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["x.csv", "; "]),
        ("", ["x.csv", "empty"]),
        ("a,b\n1,2\n", ["x.csv", "Word"]),
        (GOOD.replace("B-geo", "B_geo"), ["x.csv:4", "B_geo"]),
        ("Sentence #,Word,Tag\n1,a,O\n2,b,O\n", ["no entity"]),
        ("Sentence #,Word,Tag\n1,a,B-x\n", ["x.csv"]),
    ],
    ids=["missing", "empty", "columns", "tag", "only O", "one sentence"],
)
def test_a_bad_corpus_is_refused_and_leaves_nothing_behind(tmp_path, content, parts):
    path, output = tmp_path / "x.csv", tmp_path / "run"
    if content is not None:
        path.write_text(content)
    refused(run("train.py", "--train", path, "--validation", path, "--output", output, "--tpu", "none"), *parts)
    assert not output.exists()


def test_other_bad_usage_is_refused(tmp_path, tiny):
    data = tmp_path / "x.csv"
    data.write_text(GOOD)
    same = ["--train", data, "--validation", data, "--tpu", "none", "--output", tmp_path / "run"]
    refused(run("train.py", *same, "--encoder", "nobody/nothing"), "nobody/nothing")
    refused(run("train.py", *same, "--encoder", tiny, "--row-length", "128"), "64 positions")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    for flag in ([], ["--overwrite"], ["--resume"]):
        refused(run("train.py", *same, "--encoder", tiny, *flag), str(tmp_path / "run"))
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"
    refused(run("evaluate.py", "--ckpt", tmp_path), "not a trained model")
    refused(run("evaluate.py", "--ckpt", tmp_path / "nowhere"), "no such folder")
    refused(run("predict.py", "--ckpt", data, "x"), "not a folder")
    refused(run("predict.py", "--ckpt", tiny), "--input")
    refused(run("predict.py", "--ckpt", tiny, "--input", tmp_path / "nowhere.txt"), "nowhere.txt")
    refused(run("evaluate.py", "--ckpt", tiny), "--data")
    refused(run("train.py", "--epoch", "3"), "--epochs")


@pytest.mark.parametrize("program", ["train.py", "evaluate.py", "predict.py"])
def test_help_imports_neither_tensorflow_nor_transformers(program):
    code = f"""
import runpy, sys
sys.argv = ['{program}', '--help']
try:
    runpy.run_path('{program}', run_name='__main__')
except SystemExit:
    print([m for m in ('tensorflow', 'transformers', 'seqeval', 'sklearn') if m in sys.modules])
"""
    done = run("-c", code)
    assert done.stdout.strip().endswith("[]"), done.stdout[-500:]


def fails(error):
    def main(arguments):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("it is empty", hint="give another", path="x.csv"), 2, "error: x.csv: it is empty; give another"),
        (RunStopped("stopped at step 3"), 1, "stopped at step 3"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x\ny"), 2, "error: [Errno 2] No such file: 'x\\ny'; check the path, its perm"),
        (OSError(errno.ENOSPC, "No space left"), 1, "error: [Errno 28] No space left; check the path, its permissions and the space left"),
    ],
    ids=["input", "stopped", "missing file", "full disk"],
)
def test_an_error_is_one_line_and_its_traceback_is_shown_when_asked_for(monkeypatch, capsys, error, status, line):
    monkeypatch.delenv("NER_TRACEBACK", raising=False)
    assert run_main(fails(error)) == status
    shown = capsys.readouterr().err
    assert shown.startswith(line) and shown.count("\n") == 1
    monkeypatch.setenv("NER_TRACEBACK", "1")
    assert run_main(fails(error)) == status
    traced = capsys.readouterr().err
    assert traced.startswith("Traceback") and "in main" in traced and traced.endswith(shown)


def test_a_bug_that_is_no_file_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_main(lambda arguments: 1 // 0)


def test_an_interrupted_program_ends_as_a_shell_expects():
    assert run_main(fails(KeyboardInterrupt())) == 130


def test_a_tpu_that_is_named_and_not_there_is_an_error_not_a_fallback():
    began = time.monotonic()
    refused(run("train.py", "--tpu", "grpc://127.0.0.1:1", "--tpu-timeout", "20"), "grpc://127.0.0.1:1")
    refused(run("train.py", "--tpu", "nosuch", "--tpu-timeout", "20"), "nosuch")
    assert time.monotonic() - began < 90


def test_the_quickstart_is_split_so_that_names_are_mostly_new():
    from ner import corpus
    from ner.scoring import spans

    config = load_toml(ROOT / "experiments" / "quickstart.toml")
    train, validation = corpus.read(config.train), corpus.read(config.validation)
    assert len(train) + len(validation) >= 600
    assert len({tag for s in train for tag in s.tags}) == 17

    def names(sentences):
        kinds = ("per", "org", "art", "eve", "nat", "geo")
        return {" ".join(s.words[a:b]) for s in sentences for kind, a, b in spans(s.tags) if kind in kinds}

    assert len(names(validation) & names(train)) < 0.2 * len(names(validation))
