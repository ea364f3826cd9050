"""Training runs end to end on a tiny BERT: train, evaluate, predict, resume, TensorBoard.

One run is trained in a process of its own, as a user starts it, and shared. The others are made in this process, which saves their start;
that they end with the same bits shows that this makes no difference.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from programs import ROOT, call, copied, events, process, records, scores, weights, without_clock
from test_decoding import is_iob2

from ner import formats
from ner.sentences import Sentence

EPOCHS = 6


@pytest.fixture(scope="module")
def flags(corpus, tiny):
    return [
        *("--train", corpus / "train.conll", "--validation", corpus / "validation.conll", "--encoder", tiny, "--tpu", "none"),
        *("--no-case", "--validate-every", 0, "--head", "linear"),  # the SavedModel has no transitions
        *("--epochs", EPOCHS, "--rows", 2, "--row-length", 64, "--learning-rate", "1e-2", "--dropout", 0.1, "--encoder-dropout", 0.05),
        *("--layer-decay", 1),  # the encoder is random, so its lower layers have nothing to keep
        *("--steps-per-call", 3, "--checkpoint-every-steps", 7, "--compute-dtype", "float32"),
    ]


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    """A finished run of the real train.py in a process of its own: (run folder, the process)."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    done = process("train.py", *flags, "--output", output)
    assert done.returncode == 0, done.stderr
    return output, done


def complaints(stderr):
    """Without the note of XLA that TensorFlow 2.20 writes whatever log level it is given."""
    return re.sub(r"WARNING: All log messages before absl::.*\n|I0000 .* Compiled cluster using XLA!.*\n", "", stderr)


def test_training_says_what_it_took_and_nothing_of_tensorflows_noise(trained):
    output, done = trained
    assert "device: the CPU (--tpu none" in done.stdout and complaints(done.stderr) == ""
    assert done.stdout.count("\nepoch ") == EPOCHS
    assert (output / "config.toml").is_file() and (output / "model" / "model.safetensors").is_file()


def test_the_model_learns(trained):
    found = scores(trained[0])
    assert found == [r["validation/f1_strict"] for r in records(trained[0]) if "validation/f1" in r]  # every tag is IOB2
    assert len(found) == EPOCHS and max(found) > 0.5


def test_every_step_is_recorded_once_in_order(trained):
    steps = [r["step"] for r in records(trained[0])]
    assert steps == sorted(set(steps)) and all(
        {"train/loss", "train/learning_rate", "train/gradient_norm", "train/tokens_per_second", "train/padding_share"} <= set(r)
        for r in records(trained[0])
    )


def test_event_files_hold_what_metrics_jsonl_holds(trained):
    output, _ = trained
    found = events(output)
    for tag in ("validation/f1", "validation/f1_strict", "validation/f1/geo", "train/loss"):
        expected = [(r["step"], r[tag]) for r in records(output) if tag in r]
        assert [s for s, _ in found[tag]] == [s for s, _ in expected]
        assert [float(v) for _, v in found[tag]] == pytest.approx([v for _, v in expected], rel=1e-6)
    assert len(found["validation/f1"]) == EPOCHS
    assert b"epochs = 6" in found["configuration"][0][1].item()
    assert len(found["validation/sample"]) == EPOCHS


def test_evaluate_gives_the_f1_that_training_printed_to_the_last_digit(trained, tmp_path):
    output, done = trained
    result = call("evaluate", "--ckpt", output, "--json", tmp_path / "s.json", "--html", tmp_path / "r.html")
    assert result.returncode == 0, result.stderr
    best = max(scores(output))
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["f1"] == best and f"best validation F1 {best}" in done.stdout
    assert {"precision", "recall", "f1_strict", "macro_f1", "per_type", "sentences", "words", "entities"} <= set(found)
    assert (tmp_path / "r.html").stat().st_size > 1000


def test_predict_gives_evaluates_tags(trained, corpus, tmp_path):
    output, _ = trained
    call("evaluate", "--ckpt", output, "--predictions", tmp_path / "p.txt")
    blocks = (tmp_path / "p.txt").read_text().strip().split("\n\n")
    expected = [[line.split(" ")[2] for line in block.split("\n")] for block in blocks]
    lines = [" ".join(s.words) for s in formats.read(corpus / "validation.conll")]
    (tmp_path / "in.txt").write_text("\n".join(lines) + "\n")
    done = call("predict", "--ckpt", output / "model", "--input", tmp_path / "in.txt", "--pre-split", "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    got = [json.loads(line) for line in done.stdout.splitlines()]
    assert [g["tags"] for g in got] == expected
    for g, line in zip(got, lines, strict=True):
        assert g["text"] == line and all(line[e["start"] : e["end"]] == e["text"] and 0 < e["score"] <= 1 for e in g["entities"])


@pytest.mark.parametrize(("format", "expected"), [("table", "london"), ("conll", "london B-")])
def test_predict_reads_standard_input_and_writes_tables_and_columns(trained, format, expected):
    done = call("predict", "--ckpt", trained[0], "--input", "-", "--format", format, input="alex lives in london\n\n\u200b\n")
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_predict_gives_an_empty_line_an_empty_answer(trained):
    for text in ("", "\n", " \n\n"):
        done = call("predict", "--ckpt", trained[0], "--input", "-", "--format", "jsonl", input=text)
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["tags"] for line in done.stdout.splitlines()] == [[]] * text.count("\n")


def test_hostile_words_get_one_tag_each(trained, tmp_path):
    sentences = [
        Sentence(["in"] * 10_000, ["O"] * 10_000),
        Sentence(["-" * 100_000, "a" * 100_000], ["O", "O"]),
        Sentence(["\x96", "\u0301", "\u200b\u200d", "\U0001f600", "two words"], ["O"] * 5),
    ]
    formats.write(tmp_path / "x.jsonl", sentences)
    done = call("evaluate", "--ckpt", trained[0], "--data", tmp_path / "x.jsonl", "--predictions", tmp_path / "p.txt")
    assert done.returncode == 0, done.stderr
    assert "only the first word pieces were read" in done.stdout
    blocks = (tmp_path / "p.txt").read_text().split("\n\n")
    assert [len([line for line in block.split("\n") if len(line.split(" ")) == 3]) for block in blocks[:3]] == [10_000, 2, 5]


def test_a_closed_pipe_is_no_error(trained, tmp_path):
    (tmp_path / "in.txt").write_text("alex lives in london\n" * 3000)
    for format in ("jsonl", "table"):
        command = [sys.executable, "predict.py", "--ckpt", trained[0], "--input", tmp_path / "in.txt", "--format", format]
        with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline()
            process.stdout.close()
            assert complaints(process.stderr.read()) == "" and process.wait() == 0


CRASH = """
import os, sys
from ner.checkpoint import Checkpoints
save = Checkpoints.save
def crash(self, state):
    save(self, state)
    os._exit(9)
Checkpoints.save = crash
import train
sys.exit(train.run_main(train.main))
"""


def test_a_run_that_crashed_and_resumed_has_the_bits_of_one_that_did_not(trained, flags, tmp_path):
    output = tmp_path / "crashed"
    crashed = process("-c", CRASH, *flags, "--output", output)
    assert crashed.returncode == 9, crashed.stderr
    check_resumed(trained[0], flags, output)


def check_resumed(whole, flags, output):
    """The run at ``output`` is continued to the bits of the one at ``whole``; returns what was printed."""
    resumed = call("train", *flags, "--output", output, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed from step-" in resumed.stdout
    assert weights(output) == weights(whole) and without_clock(output) == without_clock(whole)
    before, again = events(whole), events(output)
    assert {tag: [s for s, _ in points] for tag, points in before.items()} == {tag: [s for s, _ in points] for tag, points in again.items()}
    return resumed.stdout


@pytest.fixture(scope="module")
def interrupted(trained, flags, tmp_path_factory):
    """The run folder as it stood after the fourth checkpoint of a run in this process, which ended as the one in its own did."""
    folder = tmp_path_factory.mktemp("runs")
    with copied(4, folder / "copy"):
        assert call("train", *flags, "--output", folder / "run").returncode == 0
    assert weights(folder / "run") == weights(trained[0]) and without_clock(folder / "run") == without_clock(trained[0])
    return folder / "copy"


def test_a_run_is_continued_from_a_later_checkpoint_to_the_same_bits(trained, interrupted, flags, tmp_path):
    check_resumed(trained[0], flags, shutil.copytree(interrupted, tmp_path / "run"))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(trained, interrupted, flags, tmp_path):
    output = shutil.copytree(interrupted, tmp_path / "damaged")
    newest = sorted((output / "checkpoints").glob("step-*"))[-1]
    data = next(newest.glob("variables.data*"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    said = check_resumed(trained[0], flags, output)
    assert f"{newest} is damaged ({data.name} does not match its checksum)" in said


def test_a_run_asked_to_stop_saves_exits_1_and_continues_to_the_same_bits(trained, flags, tmp_path):
    output = tmp_path / "stopped"
    command = [sys.executable, "train.py", *map(str, flags), "--output", str(output)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        for line in started.stdout:
            if line.startswith("epoch 2/"):
                started.send_signal(signal.SIGTERM)
        assert started.wait() == 1
        assert "--resume continues" in started.stderr.read()
    assert call("train", "--output", output, "--resume").returncode == 0  # the run's own config.toml
    assert weights(output) == weights(trained[0]) and without_clock(output) == without_clock(trained[0])


FULL = """
import resource, sys
import train
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.exit(train.run_main(train.main))
"""


@pytest.mark.parametrize("file", ["model/model.safetensors", "checkpoints/step-*/variables.data*"])
def test_a_full_disk_ends_in_one_line_and_the_run_continues_to_the_same_bits(flags, trained, tmp_path, file):
    """A limit on the size of files stands for the full disk. It is a byte less than what this file takes, so that its write fails."""
    output = tmp_path / "full"
    limit = next(trained[0].glob(file)).stat().st_size - 1
    stopped = process("-c", FULL, limit, *flags, "--output", output)
    error = complaints(stopped.stderr)
    assert stopped.returncode == 1 and error.startswith("error: ") and error.count("\n") == 1, stopped.stderr
    assert str(output) in error and "space" in error
    assert (output / "model").exists() == file.startswith("checkpoints")  # the model is written first
    assert not [path for path in output.glob("checkpoints/step-*") if not (path / "state.json").is_file()]
    resumed = call("train", *flags, "--output", output, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert weights(output) == weights(trained[0]) and without_clock(output) == without_clock(trained[0])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused(flags, tmp_path):
    tmp_path.chmod(0o500)
    done = call("train", *flags, "--output", tmp_path / "run")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and str(tmp_path / "run") in done.stderr


def test_resume_of_a_finished_run_is_done_and_of_another_run_is_refused(trained, flags):
    output, _ = trained
    done = call("train", *flags, "--output", output, "--resume")
    assert done.returncode == 0 and "finished already" in done.stdout
    other = call("train", *flags, "--output", output, "--resume", "--dropout", "0.2")
    assert other.returncode == 2 and "dropout: 0.1 -> 0.2" in other.stderr and other.stderr.count("\n") == 1


def test_two_cpu_replicas_train_to_the_same_scores(trained, flags, tmp_path):
    """Equality with dropout off is in test_step.py; here the runs differ by dropout's masks, so the first record is close, not equal."""
    done = process("train.py", *flags, "--output", tmp_path / "two", "--cpu-replicas", 2, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "2 CPU replicas" in done.stdout
    ours, one = records(tmp_path / "two")[0], records(trained[0])[0]
    assert ours["step"] == one["step"] and ours["train/loss"] == pytest.approx(one["train/loss"], rel=0.2)


def test_tensorboard_serves_the_run(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loaded = EventAccumulator(str(trained[0] / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert len(loaded.Tensors("validation/f1")) == EPOCHS


def test_a_dry_run_says_what_a_run_would_take_and_writes_nothing(flags, tmp_path):
    done = call("train", *flags, "--output", tmp_path / "run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "dry run: " in done.stdout and "updates an epoch" in done.stdout and list(tmp_path.iterdir()) == []


def test_the_model_card_holds_the_scores_and_no_paths(trained, corpus):
    card = (trained[0] / "model" / "README.md").read_text()
    best = max(scores(trained[0]))
    assert f"**{best:.4f}**" in card and "train.conll" in card and "| geo |" in card
    assert str(corpus) not in card and str(trained[0].parent) not in card


def test_a_model_file_that_was_changed_is_named(trained, tmp_path):
    shutil.copytree(trained[0] / "model", tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = call("predict", "--ckpt", tmp_path / "model", "alex")
    assert done.returncode == 2 and "'model.safetensors' is not what SHA256SUMS says" in done.stderr and done.stderr.count("\n") == 1
    (tmp_path / "model" / "SHA256SUMS").unlink()
    assert call("predict", "--ckpt", tmp_path / "model", "alex").returncode == 0


SERVED = """
import json, sys
import tensorflow as tf
from tokenizers import Tokenizer
assert not any(name == "ner" or name.startswith("ner.") for name in sys.modules)
folder, lines = sys.argv[1], json.loads(sys.argv[2])
model = tf.saved_model.load(folder).signatures["serving_default"]
length = model.structured_input_signature[1]["input_ids"].shape[1]
tokenizer, names = Tokenizer.from_file(folder + "/assets.extra/tokenizer.json"), json.load(open(folder + "/assets.extra/tags.json"))
encoded = [tokenizer.encode(line.split(" "), is_pretokenized=True) for line in lines]
ids = tf.constant([e.ids + [0] * (length - len(e.ids)) for e in encoded])
mask = tf.constant([[1] * len(e.ids) + [0] * (length - len(e.ids)) for e in encoded])
tags = model(input_ids=ids, attention_mask=mask)["tags"].numpy()
first = [[e.word_ids.index(w) for w in range(len(line.split(" ")))] for e, line in zip(encoded, lines)]
print(json.dumps([[names[row[i]] for i in places] for row, places in zip(tags, first)]))
"""


def served_and_predicted(ckpt, folder, lines):
    """The lines' tags by the exported SavedModel, without this package, and by predict.py."""
    done = call("export", "--ckpt", ckpt, "--output", folder)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-c", SERVED, str(folder), json.dumps(lines)]
    served = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True)
    assert served.returncode == 0, served.stderr
    done = call("predict", "--ckpt", ckpt, "--pre-split", "--format", "jsonl", "--compute-dtype", "float32", *lines)
    return json.loads(served.stdout), [json.loads(line)["tags"] for line in done.stdout.splitlines()]


def check_served(served, predicted):
    """The same tags, but where the likeliest of each word are not IOB2, which predict.py sees to."""
    legal = [is_iob2(tags) for tags in served]
    assert all(map(is_iob2, predicted)) and sum(legal) > len(legal) / 2
    assert [a == b for a, b in zip(served, predicted, strict=True)] == legal


def test_the_saved_model_gives_predicts_tags_without_this_package(trained, corpus, tmp_path):
    lines = [" ".join(s.words) for s in formats.read(corpus / "validation.conll") if len(s.words) < 12]
    check_served(*served_and_predicted(trained[0], tmp_path / "ner" / "1", lines))
    again = call("export", "--ckpt", trained[0], "--output", tmp_path / "ner" / "1")
    assert again.returncode == 2 and "--overwrite" in again.stderr


def test_a_model_told_of_case_learns_what_only_case_shows(tiny, tmp_path):
    """A vocabulary without capitals; whether a word is a name is its capital."""
    chosen = np.random.default_rng(0).integers(0, 4, [200, 6])
    sentences = [
        Sentence([("the", "Alex", "london", "London")[i] for i in row], [("O", "B-per", "O", "B-geo")[i] for i in row])
        for row in chosen.tolist()
    ]
    formats.write(tmp_path / "train.conll", sentences[:150])
    formats.write(tmp_path / "validation.conll", sentences[150:])
    flags = ["--train", tmp_path / "train.conll", "--validation", tmp_path / "validation.conll", "--encoder", tiny, "--tpu", "none"]
    flags += ["--epochs", 8, "--rows", 2, "--learning-rate", "1e-2", "--dropout", 0, "--encoder-dropout", 0, "--compute-dtype", "float32"]
    done = call("train", *flags, "--case", "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    call("evaluate", "--ckpt", tmp_path / "run", "--json", tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text())["f1"] > 0.95
    some = [" ".join(s.words) for s in sentences[150:160]]
    check_served(*served_and_predicted(tmp_path / "run", tmp_path / "served" / "1", some))


def test_check_reports_what_a_file_holds(corpus, tiny):
    done = call("check", corpus / "train.conll", "--encoder", tiny)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sentences: 64 (") and "geo" in done.stdout and "\nbudget: " in done.stdout
