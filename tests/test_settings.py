"""Settings that change the loop of train.py, each through a whole run of it on a tiny BERT. Runs that several tests look at are shared."""

from __future__ import annotations

import json
import math
import re
import shutil
from unittest import mock

import numpy as np
import pytest
from programs import call, copied, records, scores, weights, without_clock
from safetensors.numpy import load_file

from ner import formats, optimizer, pretrained, step
from ner.run import Run
from ner.wordpieces import WordPieces

STEPS = 4  # updates an epoch of the plain run
CALL = 2  # updates a host call


@pytest.fixture(scope="module")
def flags(corpus, tiny):
    return [
        *("--train", corpus / "train.conll", "--validation", corpus / "validation.conll", "--encoder", tiny, "--tpu", "none"),
        *("--no-case", "--validate-every", 0),
        *("--epochs", 2, "--rows", 4, "--row-length", 64, "--learning-rate", "1e-2", "--dropout", 0, "--encoder-dropout", 0),
        *("--steps-per-call", CALL, "--compute-dtype", "float32"),
    ]


def train(*arguments):
    done = call("train", *arguments)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def plain(flags, tmp_path_factory):
    """A run of the flags alone: (its folder, what it printed)."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    return folder, train(*flags, "--output", folder)


def checkpoints(folder):
    return [int(path.name.removeprefix("step-")) for path in sorted((folder / "checkpoints").iterdir())]


def printed_losses(said):
    return re.findall(r"^epoch \d+/\d+  loss (\S+)", said, re.MULTILINE)


def continue_to_the_same_bits(whole, interrupted, *flags):
    """The copy of a run, made inside an epoch, is resumed and ends as the run did."""
    newest = sorted((interrupted / "checkpoints").iterdir())[-1]
    assert json.loads((newest / "state.json").read_text())["state"]["step_in_epoch"] > 0
    assert "resumed from step-" in train(*flags, "--output", interrupted, "--resume")
    assert weights(interrupted) == weights(whole) and without_clock(interrupted) == without_clock(whole)


def test_the_line_of_an_epoch_has_the_mean_loss_of_its_updates(plain):
    folder, said = plain
    losses = {record["step"]: record["train/loss"] for record in records(folder)}
    assert list(losses) == [2, 4, 6, 8]  # of two updates each
    assert printed_losses(said) == [f"{(losses[2] + losses[4]) / 2:.4f}", f"{(losses[6] + losses[8]) / 2:.4f}"]


def test_micro_batches_take_the_same_updates(plain, flags, tmp_path):
    train(*flags, "--accumulate", 2, "--output", tmp_path / "run")
    ours, whole = records(tmp_path / "run"), records(plain[0])
    assert [record["step"] for record in ours] == [record["step"] for record in whole]
    for name in ("train/loss", "train/gradient_norm"):  # rounding grows with the updates
        assert ours[0][name] == pytest.approx(whole[0][name], rel=1e-4) and ours[-1][name] == pytest.approx(whole[-1][name], rel=0.1)


def test_a_run_that_is_watched_closely_ends_with_the_same_bits(plain, flags, tmp_path):
    """--profile, --measure-peak, and --checkpoint-every-minutes with a time that every host call takes longer than."""
    folder = tmp_path / "run"
    watched = ["--profile", "--measure-peak", "--checkpoint-every-minutes", "1e-9", "--keep-checkpoints", 100]
    said = train(*flags, *watched, "--output", folder)
    assert weights(folder) == weights(plain[0])
    assert checkpoints(plain[0]) == [4, 8] and checkpoints(folder) == [2, 4, 6, 8]
    (profile,) = (folder / "tensorboard").rglob("*.xplane.pb")
    assert profile.stat().st_size > 1000
    assert "GFLOP/s of float32 matrix products, measured" in said
    peaks = [record["train/model_flops_per_second"] / record["train/mfu"] for record in records(folder)]
    assert peaks == pytest.approx([peaks[0]] * len(peaks)) and peaks[0] > 0
    assert not any("train/mfu" in record for record in records(plain[0]))


def test_buckets_are_traced_before_the_clock_and_resumed_inside_an_epoch(flags, tmp_path):
    """The first host call of each row length must not count as training time the seconds in which it is traced."""
    updates, traces = [], []
    make_update, clock = step.make_update, Run.clock

    def make(*arguments, **options):
        updates.append(make_update(*arguments, **options))
        return updates[-1]

    def count(run):
        traces.append(updates[-1].experimental_get_tracing_count())
        return clock(run)

    buckets = [*flags, "--batching", "buckets", "--dropout", 0.1, "--checkpoint-every-steps", 3]
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    with mock.patch.object(step, "make_update", make), mock.patch.object(Run, "clock", count), copied(2, interrupted):
        train(*buckets, "--output", whole)
    assert set(traces) == {3} and updates[-1].experimental_get_tracing_count() == 3
    continue_to_the_same_bits(whole, interrupted, *buckets)


def test_validation_inside_epochs_is_continued_to_the_same_bits(flags, tmp_path):
    """Every 3 of 8 updates: after 3 and 6, in the first and the second epoch, and after the last."""
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    often = [*flags, "--validate-every", 3, "--dropout", 0.1]
    with copied(1, interrupted):
        said = train(*often, "--output", whole)
    validated = [record for record in records(whole) if "validation/f1" in record]
    assert [(record["step"], record["epoch"]) for record in validated] == [(3, 1), (6, 2), (8, 2)]
    assert re.findall(r"^epoch (\S+)/2 ", said, re.MULTILINE) == ["0.75", "1.5", "2"]
    best = max(validated, key=lambda record: record["validation/f1"])  # the first of equals
    assert f"best validation F1 {best['validation/f1']} (seqeval default mode) after step {best['step']}; " in said
    continue_to_the_same_bits(whole, interrupted, *often)


def test_at_a_layer_decay_of_0_only_the_head_learns(flags, tiny, tmp_path):
    train(*flags, "--epochs", 1, "--layer-decay", 0, "--output", tmp_path / "run")
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny, tmp_path / "run" / "model"))
    assert {name for name in after if not np.array_equal(before[name], after[name])} == {"classifier.weight", "classifier.bias"}


@pytest.fixture(scope="module")
def slow(flags, tmp_path_factory):
    """A run with padded rows and a constant rate so low that nothing is learned: (its folder, what it printed)."""
    folder = tmp_path_factory.mktemp("runs") / "slow"
    rate = ["--schedule", "constant", "--warmup", 0, "--learning-rate", "1e-9"]
    return folder, train(*flags, "--batching", "padded", *rate, "--patience", 1, "--epochs", 5, "--output", folder)


def test_a_run_ends_when_its_patience_is_over(slow):
    folder, said = slow
    first, _ = (record["step"] for record in records(folder) if "validation/f1" in record)
    assert "\nepoch 2/5 " in said and f"after step {first}; model in" in said
    assert "finished already" in train("--output", folder, "--resume")


def test_a_constant_rate_stays(slow):
    rates = [record["train/learning_rate"] for record in records(slow[0])]
    assert rates == [float(np.float32(1e-9))] * len(rates)


def test_padded_rows_hold_one_window_each(slow, corpus, tiny):
    sentences = formats.read(corpus / "train.conll")
    windows = WordPieces.load(pretrained.read(tiny)).encode([s.words for s in sentences], 64)
    steps = math.ceil(len(windows.sentences) / 4)
    epoch = [record for record in records(slow[0]) if record["epoch"] == 1]
    assert epoch[-1]["step"] == steps
    pieces = sum((1 - record["train/padding_share"]) * CALL * 4 * 64 for record in epoch[: steps // CALL])
    assert steps % CALL or pieces == pytest.approx(windows.lengths.sum())


@pytest.fixture
def rates_that_are_not_numbers():
    """The learning rates of steps 0, 1 and 4 (from 0): all of the first host call, and half of the third."""
    learning_rates = optimizer.learning_rates

    def some_bad(first, count, *arguments, **options):
        rates = learning_rates(first, count, *arguments, **options)
        return np.where(np.isin(np.arange(first, first + count), [0, 1, 4]), np.float32("nan"), rates)

    with mock.patch.object(optimizer, "learning_rates", some_bad):
        yield


def test_updates_that_are_not_finite_are_skipped_when_asked(rates_that_are_not_numbers, flags, tmp_path):
    folder = tmp_path / "run"
    said = train(*flags, "--non-finite", "skip", "--output", folder)
    first, second, third, fourth = records(folder)
    assert [record["train/skipped"] for record in (first, second, third, fourth)] == [2, 0, 1, 0]
    assert math.isnan(first["train/loss"]) and math.isnan(first["train/gradient_norm"])  # no update, so no loss
    assert math.isfinite(second["train/loss"]) and math.isfinite(third["train/loss"])
    assert "not finite at step 1 (host call of steps 1 to 2; " in said and "; 2 of its 2 updates skipped" in said
    assert "not finite at step 5 (host call of steps 5 to 6; " in said and "; 1 of its 2 updates skipped" in said
    mean = (third["train/loss"] + 2 * fourth["train/loss"]) / 3  # over the updates that were done
    assert printed_losses(said) == [f"{second['train/loss']:.4f}", f"{mean:.4f}"]
    assert all(np.isfinite(tensor).all() for tensor in load_file(folder / "model" / "model.safetensors").values())


def test_an_update_that_is_not_finite_stops_the_run(rates_that_are_not_numbers, flags, tmp_path):
    done = call("train", *flags, "--output", tmp_path / "run")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("loss or gradient not finite at step 1 (") and "lower --learning-rate" in done.stderr
    assert not (tmp_path / "run" / "model").exists()


@pytest.fixture(scope="module")
def bfloat16(flags, tmp_path_factory):
    """A run in bfloat16, and its folder as it stood inside the first epoch."""
    folder = tmp_path_factory.mktemp("runs")
    with copied(1, folder / "interrupted"):
        train(*flags, "--compute-dtype", "bfloat16", "--checkpoint-every-steps", 3, "--output", folder / "whole")
    return folder / "whole", folder / "interrupted"


def test_a_run_in_bfloat16_is_continued_to_the_same_bits(bfloat16, flags, tmp_path):
    interrupted = shutil.copytree(bfloat16[1], tmp_path / "run")
    continue_to_the_same_bits(bfloat16[0], interrupted, *flags, "--compute-dtype", "bfloat16", "--checkpoint-every-steps", 3)


def test_a_model_trained_in_bfloat16_is_evaluated_in_it(bfloat16, plain, tmp_path):
    assert weights(bfloat16[0]) != weights(plain[0])
    done = call("evaluate", "--ckpt", bfloat16[0], "--compute-dtype", "bfloat16", "--json", tmp_path / "s.json")
    assert done.returncode == 0 and json.loads((tmp_path / "s.json").read_text())["f1"] == max(scores(bfloat16[0]))


def test_replicas_train_in_bfloat16_as_one_does(bfloat16, flags, tmp_path):
    replicas = ["--cpu-replicas", 2, "--compute-dtype", "bfloat16", "--checkpoint-every-steps", 3]
    assert "2 replicas, products in bfloat16" in train(*flags, *replicas, "--output", tmp_path / "run")
    ours, alone = records(tmp_path / "run"), records(bfloat16[0])
    assert [record["step"] for record in ours] == [record["step"] for record in alone]
    assert ours[0]["train/loss"] == pytest.approx(alone[0]["train/loss"], rel=0.01)
    assert ours[0]["train/gradient_norm"] == pytest.approx(alone[0]["train/gradient_norm"], rel=0.1)
