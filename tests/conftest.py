"""Shared by the tests: eight logical CPU devices (they must exist before TensorFlow starts), a tiny BERT, the GMB corpus if named."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from browser import Browser

os.environ["HF_HUB_OFFLINE"] = "1"
CACHE = os.environ["NER_CACHE"] = tempfile.mkdtemp(prefix="ner-cache-")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
TINY = Path(__file__).parent / "fixtures" / "tiny_bert"


def pytest_configure(config):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 8)


def pytest_unconfigure(config):
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The checkpoint folder of a tiny random BERT (tests/make_fixture.py)."""
    return TINY


@pytest.fixture(scope="session")
def gmb() -> str:
    """The GMB corpus, by the environment variable GMB_CSV."""
    path = os.environ.get("GMB_CSV", "")
    if not path:
        pytest.skip("GMB_CSV does not name the GMB corpus (ner_dataset.csv)")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    command = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if command is None:
        pytest.skip("no Chromium on PATH")
    browser = Browser(command, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def toy_sentences() -> list:
    """80 sentences of 1 to 40 words whose tags follow from the words, some longer than a row of 64 letters."""
    from ner.sentences import Sentence

    rng = random.Random(0)
    sentences = []
    for number in range(80):
        words, tags = [], []
        for _ in range(rng.choice([1, 2, 5, 8, 12, 40 if number % 20 == 0 else 6])):
            word, tag = rng.choice([("alex", "B-per"), ("london", "B-geo"), ("lives", "O"), ("in", "O"), ("the", "O"), ("paris", "B-geo")])
            words, tags = [*words, word], [*tags, tag]
            if tag == "B-per" and rng.random() < 0.3:
                words, tags = [*words, "the"], [*tags, "I-per"]
        sentences.append(Sentence(words, tags))
    return sentences


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, toy_sentences) -> Path:
    """A folder with train.conll and validation.conll: 64 and 16 of the toy sentences."""
    from ner import formats

    folder = tmp_path_factory.mktemp("corpus")
    formats.write(folder / "train.conll", toy_sentences[:64])
    formats.write(folder / "validation.conll", toy_sentences[64:])
    return folder
