"""Bad input at the real entry points: one line, exit status 2, no output folder left behind."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import predict
from ner.config import Config, load_toml
from ner.errors import InputError, RunStopped, run_main
from ner.flags import parse
from tools import can_install

ROOT = Path(__file__).parent.parent
GOOD = "Sentence #,Word,Tag\nSentence: 1,Alex,B-per\n,sings,O\nSentence: 2,London,B-geo\n"


PROGRAMS = ("train", "evaluate", "predict", "check", "export", "tag", "launch")


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True)


def refused(status, stderr, *parts):
    assert status == 2, stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    for part in parts:
        assert part in stderr


@pytest.fixture
def call(monkeypatch, capsys):
    """``call(program, flags) -> (status, stderr)``, in this process."""

    def call(program, *flags):
        monkeypatch.setattr(sys, "argv", [f"{program}.py", *map(str, flags)])
        status = run_main(importlib.import_module(program).main)
        return status, capsys.readouterr().err

    return call


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
def test_a_bad_corpus_is_refused_and_leaves_nothing_behind(call, tmp_path, content, parts):
    path, output = tmp_path / "x.csv", tmp_path / "run"
    if content is not None:
        path.write_text(content)
    refused(*call("train", "--train", path, "--validation", path, "--output", output, "--tpu", "none"), *parts)
    assert not output.exists()


def test_the_process_itself_ends_with_one_line_and_status_2(tmp_path):
    path, output = tmp_path / "x.csv", tmp_path / "run"
    path.write_text(GOOD.replace("B-geo", "B_geo"))
    done = run("train.py", "--train", path, "--validation", path, "--output", output, "--tpu", "none")
    refused(done.returncode, done.stderr, "x.csv:4", "B_geo")
    assert not output.exists()
    done = run("predict.py", "--ckpt", path, "x")
    refused(done.returncode, done.stderr, "not a folder")


def test_other_bad_usage_is_refused(call, tmp_path, tiny):
    data = tmp_path / "x.csv"
    data.write_text(GOOD)
    same = ["--train", data, "--validation", data, "--tpu", "none", "--output", tmp_path / "run"]
    refused(*call("train", *same, "--encoder", "nobody/nothing"), "nobody/nothing")
    refused(*call("train", *same, "--encoder", tiny, "--row-length", "128"), "64 positions")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    for flag in ([], ["--overwrite"], ["--resume"]):
        refused(*call("train", *same, "--encoder", tiny, *flag), str(tmp_path / "run"))
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"
    refused(*call("evaluate", "--ckpt", tmp_path), "not a trained model")
    refused(*call("evaluate", "--ckpt", tmp_path / "nowhere"), "no such folder")
    (tmp_path / "runs" / "mine" / "model").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "model" / "config.json").write_text("{}")
    for wrong in (tmp_path / "runs", tmp_path / "runs" / "mien"):
        refused(*call("evaluate", "--ckpt", wrong), f"such as {tmp_path / 'runs' / 'mine'}")
    refused(*call("predict", "--ckpt", tiny), "--input")
    refused(*call("predict", "--ckpt", tiny, "--input", tmp_path / "nowhere.txt"), "nowhere.txt")
    refused(*call("evaluate", "--ckpt", tiny), "--data")


def test_a_text_that_is_a_file_is_warned_of(call, tiny):
    _, error = call("predict", "--ckpt", tiny, "README.md", "no file")
    assert error.startswith("warning: 'README.md' is read as a text, and is a file; --input README.md tags its lines\n")
    assert error.count("warning") == 1


def test_bad_flags_of_each_program_are_refused(call):
    refused(*call("train", "--epoch", "3"), "did you mean --epochs?")
    refused(*call("train", "README.md"), "'README.md' belongs to no flag; did you mean --data README.md?")
    refused(*call("train", "no-file"), "belongs to no flag; see python train.py --help")
    refused(*call("evaluate", "tests"), "did you mean --ckpt tests?")
    refused(*call("evaluate"), "--ckpt PATH is missing; see python evaluate.py --help")
    refused(*call("evaluate", "--ckpt", "x", "--split", "dev"), "--split 'dev'", "give one of train, validation, test, all")
    refused(*call("predict", "--chkpt", "x", "text"), "did you mean --ckpt?")
    refused(*call("check"), "FILE is missing")
    refused(*call("check", "x.csv", "y.csv"), "'y.csv' belongs to no flag")
    refused(*call("check", "x.csv", "--row-length", "4"), "row_length = 4 is out of range; give row_length a value from 8 to 32,768")
    refused(*call("export", "--ckpt", "x"), "--output PATH is missing")


def test_a_text_that_begins_like_a_flag_of_one_letter_is_named():
    with pytest.raises(InputError, match="there is no flag -hello"):
        parse(predict.Arguments, ["--ckpt", "x", "-hello"])
    for arguments in (["-hilfe in Paris"], ["--", "-hilfe in Paris"]):
        assert parse(predict.Arguments, ["--ckpt", "x", *arguments]).text == ("-hilfe in Paris",)


def test_arguments_without_a_flag():
    import check
    import predict

    texts = parse(predict.Arguments, ["--ckpt", "x", "alex lives", "- in", "--pre-split", "--format=conll"])
    assert texts == predict.Arguments(ckpt="x", text=("alex lives", "- in"), pre_split=True, format="conll")
    assert parse(predict.Arguments, ["--ckpt", "x", "--input", "-"]) == predict.Arguments(ckpt="x", input="-")
    assert parse(predict.Arguments, ["--ckpt", "x", "--", "--ckpt", "-y"]).text == ("--ckpt", "-y")
    for arguments in (["x.csv", "--row-length", "64"], ["--row-length", "64", "x.csv"]):
        assert parse(check.Arguments, arguments) == check.Arguments(file="x.csv", row_length=64)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_every_flag_and_imports_nothing_slow(program):
    code = f"""
import runpy, sys
sys.argv = ['{program}.py', '--help']
try:
    runpy.run_path('{program}.py', run_name='__main__')
except SystemExit as end:
    assert not end.code
    print([m for m in ('tensorflow', 'transformers', 'seqeval', 'sklearn', 'numpy', 'rich') if m in sys.modules])
"""
    done = run("-c", code)
    assert done.stdout.strip().endswith("[]"), done.stdout[-500:] + done.stderr
    module = importlib.import_module(program)
    shown = " ".join(done.stdout.replace("-\n", "-").split())
    for field in dataclasses.fields(Config if program == "train" else module.Arguments):
        name = field.name.upper() if field.metadata["positional"] else "--" + field.name.replace("_", "-")
        assert name in shown
        assert " ".join(field.metadata["help"].split()[:2]) in shown
    if program == "train":
        for part in (
            "default: 0.3; from 0 to 0.99",
            "(default: counted)",
            "--case, --no-case",
            "--head {linear,counted,crf}",
            "optimization:",
        ):
            assert part in shown


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


def test_a_package_that_is_not_installed_is_one_line(capsys):
    assert run_main(fails(ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow"))) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: the package 'tensorflow' is not installed for ") and "make setup" in shown and shown.count("\n") == 1
    with pytest.raises(ModuleNotFoundError):
        run_main(fails(ModuleNotFoundError("No module named 'ner.nowhere'", name="ner.nowhere")))


def test_an_older_python_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    with pytest.raises(SystemExit, match="error: Python 3.11 or newer is needed") as end:
        runpy.run_path(str(ROOT / "ner" / "__init__.py"))
    assert "\n" not in str(end.value)


@pytest.mark.parametrize(
    ("version", "system", "machine", "part"),
    [
        ((3, 9, 6), "darwin", "arm64", "and this is 3.9; "),
        ((3, 14, 0), "linux", "x86_64", "and this is 3.14; "),
        ((3, 12, 1), "darwin", "x86_64", "Intel"),
        ((3, 11, 0), "linux", "x86_64", ""),
        ((3, 13, 9), "darwin", "arm64", ""),
    ],
)
def test_where_tensorflow_has_no_package_setup_says_so_in_one_line(version, system, machine, part):
    found = can_install.refusal(version, system, machine)
    assert part in found and bool(part) == bool(found) and "\n" not in found


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on PATH")
def test_make_setup_asks_before_it_installs(tmp_path):
    command = ["make", "--no-print-directory", "--dry-run", "setup", f"VENV={tmp_path}", "PYTHON=python3"]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # this may be `make test`
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=outside)
    asks, makes = done.stdout.splitlines()[:2]
    assert asks == "python3 tools/can_install.py" and makes.startswith("python3 -m venv")


def test_a_bug_that_is_no_file_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_main(lambda arguments: 1 // 0)


def test_an_interrupted_program_ends_as_a_shell_expects():
    assert run_main(fails(KeyboardInterrupt())) == 130


def test_a_tpu_that_is_named_and_not_there_is_an_error_not_a_fallback(call):
    refused(*call("train", "--tpu", "grpc://127.0.0.1:1"), "grpc://127.0.0.1:1")
    done = run("train.py", "--tpu", "nosuch", "--tpu-timeout", "20")  # in a process of its own, which the time-out would end
    refused(done.returncode, done.stderr, "nosuch")


def test_the_quickstart_is_split_so_that_names_are_mostly_new():
    from ner import formats
    from ner.sentences import entity_spans

    config = load_toml(ROOT / "experiments" / "quickstart.toml")
    train, validation = formats.read(config.train), formats.read(config.validation)
    assert len(train) + len(validation) >= 600
    assert len({tag for s in train for tag in s.tags}) == 17

    def names(sentences):
        kinds = ("per", "org", "art", "eve", "nat", "geo")
        return {" ".join(s.words[a:b]) for s in sentences for kind, a, b in entity_spans(s.tags) if kind in kinds}

    assert len(names(validation) & names(train)) < 0.2 * len(names(validation))
