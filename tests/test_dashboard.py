from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorboard import program

from ner.dashboard import Dashboard, confusion_image, is_timing, validation_scalars
from ner.errors import InputError
from ner.scoring import Evaluation


def test_metrics_past_the_checkpoint_and_a_line_cut_short_are_dropped(tmp_path):
    first = Dashboard(tmp_path)
    for step in (2, 4, 6):
        first.scalars(step, 1, {"train/loss": 1.0 / step})
    first.flush()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "epo')
    Dashboard(tmp_path, step=4)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [2, 4]


def test_damage_in_the_middle_of_metrics_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match="metrics.jsonl:2: damaged"):
        Dashboard(tmp_path, step=3)


def test_a_worker_that_is_not_chief_writes_nothing(tmp_path):
    other = Dashboard(tmp_path, chief=False)
    other.scalars(1, 1, {"train/loss": 1.0})
    other.configuration("a = 1", {"a": 1})
    other.validation(1, Evaluation([["x"]], [["O"]], [["O"]]))
    other.flush()
    assert list(tmp_path.iterdir()) == []


def test_the_scalars_of_an_epoch_are_named_by_the_contract():
    gold, predicted = [["B-geo", "O"], ["B-per", "I-per"]], [["B-geo", "O"], ["B-per", "O"]]
    values = validation_scalars(Evaluation(gold, gold, predicted, [[0.75, 1.0], [0.5, 0.25]]))
    assert values["validation/f1"] == 0.5 and values["validation/f1/geo"] == 1.0 and values["validation/recall/per"] == 0.0
    assert {"validation/f1_strict", "validation/precision", "validation/recall", "validation/macro_f1"} <= set(values)
    assert values["validation/errors/correct"] == 1.0 and values["validation/errors/wrong_boundary"] == 1.0
    # Words: right at 0.75, 1.0 and 0.5, wrong at 0.25, each in a bin of its own. Entities: right at 0.75, wrong at 0.5.
    assert values["validation/ece_words"] == pytest.approx((0.25 + 0.0 + 0.5 + 0.25) / 4)
    assert values["validation/ece_entities"] == pytest.approx((0.25 + 0.5) / 2)


def test_a_scalar_is_a_timing_by_the_unit_in_its_name():
    timings = ("seconds", "tokens_per_second", "data_wait_seconds", "model_flops_per_second", "mfu")
    others = ("loss", "learning_rate", "gradient_norm", "update_norm", "padding_share")
    assert [name for name in (*timings, *others) if is_timing(f"train/{name}")] == [*timings]
    assert not is_timing("validation/f1/second")  # a type of this name


def test_event_records_past_the_checkpoint_are_dropped_and_nothing_else_is_left(tmp_path):
    board = Dashboard(tmp_path)
    for step in (2, 4, 6):
        board.scalars(step, 1, {"train/loss": 1.0 / step})
    board.flush()
    (written,) = (tmp_path / "tensorboard").iterdir()
    (tmp_path / "tensorboard" / ".partial").write_bytes(b"of a killed process")
    Dashboard(tmp_path, step=4)
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(written))]
    assert [event.step for event in events if event.summary.value] == [2, 4]
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]


def test_the_confusion_is_drawn_darker_where_more_is():
    image = confusion_image(["$a$", "<b>", "O"], np.array([[90, 10, 0], [0, 0, 0], [1, 2, 0]]))
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 4
    empty = confusion_image(["$a$", "<b>", "O"], np.zeros((3, 3), int))
    assert image[..., :3].mean() < empty[..., :3].mean()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """TensorBoard over two runs of two epochs, in this process: its address."""
    logs = tmp_path_factory.mktemp("logs")
    words, gold = [["alex", "lives", "in", "<b>london</b>"]], [["B-per", "O", "O", "B-geo"]]
    for name, rate in (("slow", 1e-4), ("quick", 1e-3)):
        board = Dashboard(logs / name)
        board.configuration(f"learning_rate = {rate}\n", {"learning_rate": rate, "encoder": "tiny"})
        for epoch, predicted in enumerate(([["O", "O", "O", "B-org"]], [["B-per", "O", "O", "O"]]), 1):
            evaluation = Evaluation(words, gold, predicted, [[0.5] * 4])
            values = validation_scalars(evaluation)
            board.scalars(epoch, epoch, {"train/loss": 1.0 / epoch, "train/seconds": 5.0 * epoch, **values})
            board.validation(epoch, evaluation)
        board.flush()
    board = program.TensorBoard()
    board.configure(argv=["", "--logdir", str(logs), "--host", "localhost", "--port", "0", "--load_fast", "false"])
    return board.launch()


# All the text of a page, that of web components included.
TEXT = """(() => {
  const texts = [];
  const walk = node => {
    if (node.nodeType === 3) texts.push(node.data);
    if (node.shadowRoot) walk(node.shadowRoot);
    if (!["STYLE", "SCRIPT"].includes(node.tagName)) node.childNodes.forEach(walk);
  };
  walk(document.body);
  return texts.join(" ");
})()"""


@pytest.mark.parametrize(
    ("tab", "shown"),
    [
        ("scalars", ["train/loss", "validation/f1/geo", "validation/errors/missed", "validation/ece_entities"]),
        ("images", ["validation/confusion", "slow", "quick"]),
        ("text", ["validation/worst", "1 missed, 1 wrong type", "<b>london</b>", "geo"]),
        ("hparams", ["learning_rate", "encoder", "validation/f1", "train/seconds", "0.0010000"]),
    ],
)
def test_tensorboard_shows_the_run(browser, served, tab, shown):
    browser.open(f"{served}#{tab}")
    for text in shown:
        browser.wait_for(f"{TEXT}.replaceAll('\u200b', '').includes({json.dumps(text)})")
    # Warnings are TensorBoard's own: of libraries it loads twice, and the like.
    assert [c for c in browser.complaints() if "warning" not in (c.get("type"), c.get("entry", {}).get("level"))] == []
    addresses = [event["request"]["url"] for event in browser.named("Network.requestWillBeSent")]
    assert [address for address in addresses if not address.startswith((served, "data:", "blob:"))] == []


def test_many_types_draw_a_picture_of_bounded_size():
    labels = [f"type{i}" for i in range(500)] + ["O"]
    matrix = np.diag(np.arange(501))
    image = confusion_image(labels, matrix)
    assert max(image.shape) <= 2500


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text('{"step": 2}\n{"st')])
def test_metrics_that_end_before_the_checkpoint_are_refused(tmp_path, damage):
    board = Dashboard(tmp_path)
    for step in (2, 4):
        board.scalars(step, 1, {"train/loss": 1.0 / step})
    damage(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match="ends at step [02], the checkpoint at 4"):
        Dashboard(tmp_path, step=4)
