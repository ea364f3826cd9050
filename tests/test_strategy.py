from __future__ import annotations

import gc
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from ner import bert, strategy, throughput
from ner.errors import InputError, RunStopped
from ner.tagger import LinearHead, TaggingModel


@pytest.fixture(autouse=True)
def no_tpu_here(monkeypatch):
    for name in ("TPU_NAME", "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(strategy.glob, "glob", lambda pattern: [])


def test_auto_without_a_tpu_takes_the_cpu_and_says_why():
    devices = strategy.choose("auto")
    assert (devices.kind, devices.strategy.num_replicas_in_sync, devices.chief) == ("cpu", 1, True)
    assert devices.reason == "the CPU (no TPU_NAME, no TPU device files, no GPU)"
    assert strategy.choose("none").reason == "the CPU (--tpu none, no GPU)"


def test_auto_looks_before_it_asks_a_resolver(monkeypatch):
    assert strategy._tpu_name("auto") is None
    monkeypatch.setattr(strategy.glob, "glob", lambda pattern: ["/dev/accel0"] if "accel" in pattern else [])
    assert strategy._tpu_name("auto") == "local"
    monkeypatch.setenv("TPU_NAME", "mine")
    assert (strategy._tpu_name("auto"), strategy._tpu_name("none"), strategy._tpu_name("other")) == ("mine", None, "other")


def test_a_closed_port_is_refused_at_once():
    with socket.socket() as closed:
        closed.bind(("localhost", 0))
        port = closed.getsockname()[1]
    with pytest.raises(InputError, match="no TPU answers at grpc://localhost"):
        strategy.choose(f"grpc://localhost:{port}", timeout=30)


def test_prediction_does_not_wait_for_other_workers(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 0}}')
    assert strategy.choose("none", workers=False).strategy.num_replicas_in_sync == 1


def test_the_import_is_not_looked_through_for_garbage_and_nothing_else_changes(monkeypatch):
    with strategy.uncollected():
        assert gc.isenabled() and not gc.get_freeze_count()  # TensorFlow is there already
    monkeypatch.delitem(sys.modules, "tensorflow")
    try:
        with pytest.raises(ImportError), strategy.uncollected():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() and gc.get_freeze_count()
        gc.disable()
        gc.unfreeze()
        with strategy.uncollected():
            pass
        assert not gc.isenabled() and not gc.get_freeze_count()
    finally:
        gc.enable()
        gc.unfreeze()


def test_more_gpus_than_there_are_is_an_error():
    with pytest.raises(InputError, match="--gpus 2, but this machine has 0"):
        strategy.choose("none", gpus=2)


def test_a_call_that_hangs_ends_with_one_line_and_status_2():
    code = "import time\nfrom ner.strategy import _deadline\nwith _deadline(0.2, 'TPU x did not initialise within 0.2 s'): time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.startswith("error: TPU x did not initialise") and done.stderr.count("\n") == 1


def test_what_a_failing_block_wrote_to_stderr_is_shown_and_a_good_ones_is_not():
    code = "import os\nfrom ner.strategy import silent_stderr\nwith silent_stderr():\n    os.write(2, b'noise')\n    {end}"
    good = subprocess.run([sys.executable, "-c", code.format(end="pass")], capture_output=True, text=True)
    bad = subprocess.run([sys.executable, "-c", code.format(end="raise ValueError")], capture_output=True, text=True)
    assert good.stderr == "" and bad.stderr.startswith("noise")


def test_a_hidden_package_is_not_found_in_the_block_and_is_after_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with strategy.hidden(("colorsys", "socket")):
        with pytest.raises(ImportError):
            import colorsys
        import socket as again  # it was imported before

        assert again is socket
    import colorsys

    assert sys.modules["colorsys"] is colorsys


def test_compute_dtype(monkeypatch):
    assert strategy.compute_dtype("float32", "tpu") == tf.float32
    assert strategy.compute_dtype("auto", "tpu") == tf.bfloat16
    for has, expected in ((True, tf.bfloat16), (False, tf.float32)):
        monkeypatch.setattr(strategy, "_cpu_has_bfloat16", lambda has=has: has)
        assert strategy.compute_dtype("auto", "cpu") == expected


def test_model_flops_count_six_per_weight_of_the_matrix_products():
    shape = bert.BertConfig(50, 32, 2, 4, 64, 16)
    per_layer = 32 * 96 + 32 * 32 + 2 * 32 * 64
    assert throughput.flops_per_piece(TaggingModel(bert.Encoder(shape), LinearHead(32, ("O",)))) == 6 * 2 * per_layer


class Clock:
    """A clock that moves by a second each time it is read."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_measured_peak_counts_the_products_of_all_replicas(monkeypatch, replicas):
    """By a clock on which a run of the products takes a second, the rate is the number of operations: about 2e10 products of 2 each."""
    monkeypatch.setattr(throughput, "time", Clock())
    one = tf.distribute.get_strategy() if replicas == 1 else strategy.mirrored_cpus([f"/cpu:{i}" for i in range(replicas)])
    rate = throughput.matmul_peak(one, tf.float32, 64, seconds=3.0)
    assert rate == replicas * 2 * 4096 * 64 * 256 * (int(2e10) // (4096 * 64 * 256))


@pytest.mark.parametrize(
    ("files", "built", "expected"),
    [([], True, "no GPU"), (["/dev/nvidia0"], False, "not built for"), (["/dev/nvidia0"], True, "cannot use")],
)
def test_a_gpu_that_cannot_be_used_is_named(monkeypatch, files, built, expected):
    monkeypatch.setattr(strategy.glob, "glob", lambda pattern: files if "nvidia" in pattern else [])
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: built)
    assert expected in strategy.choose("none").reason


def test_cpu_replicas_of_several_workers_are_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(InputError, match="--cpu-replicas"):
        strategy.choose("none", cpu_replicas=2)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}',
    ],
)
def test_a_tf_config_that_does_not_name_this_worker_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="TF_CONFIG"):
        strategy.choose("none")


def test_a_lost_worker_is_told_from_an_error_of_ones_own():
    two = strategy.Devices(tf.distribute.get_strategy(), "cpu", "", workers=2)
    with pytest.raises(RunStopped, match="another worker is gone .Socket closed."), two.watched():
        raise tf.errors.UnavailableError(None, None, 'Graph execution error:\n\nDetected at node x\n  File "x.py", line 1\nSocket closed\n')
    with pytest.raises(tf.errors.ResourceExhaustedError), two.watched():
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")
