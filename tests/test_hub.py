"""hub.py and what dataset.py and evaluate.py do with a hub name: against a server on loopback, and with prepared caches."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import FakeHub
from test_parquet import FEATURES, NAMES, put

import evaluate
from ner import dataset, formats, hub, run_folder
from ner.card import model_card
from ner.config import Config, load_toml, to_toml
from ner.errors import InputError
from ner.scoring import Evaluation
from ner.sentences import Sentence

REPO = "someone/news"
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: corpus/first-*
  - split: dev
    path: [corpus/second.parquet]
  - split: more
    path: corpus/more.parquet
dataset_info:
  features:
  - name: tokens
    sequence: string
  - name: ner_tags
    sequence:
      class_label:
        names: {'0': O, '1': B-per, '2': I-per, '3': B-geo}
---
# News
"""


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of the hub; the tests' Python stays offline."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


@pytest.fixture
def server(monkeypatch, cache):
    """A hub with no dataset yet, which is asked in place of the real one."""
    fake = FakeHub()
    threading.Thread(target=fake.serve_forever, args=(0.01,), daemon=True).start()
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", fake.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", fake.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield fake
    fake.shutdown()
    fake.server_close()


@pytest.fixture
def part(tmp_path):
    """A function: the bytes of a Parquet file with one sentence a word given, as datasets writes it."""

    def make(*words: str, named: bool = True) -> bytes:
        features = {"ner_tags": FEATURES["datasets 4"]} if named else None
        columns = {"tokens": [[word, "left"] for word in words], "ner_tags": [[1, 0] for _ in words]}
        return put(tmp_path / "part.parquet", columns, features=features).read_bytes()

    return make


def first_words(splits) -> dict[str, list[str]]:
    return {name: [s.words[0] for s in sentences] for name, sentences in splits.items()}


def load(data: str, wanted=dataset.SPLITS) -> dict[str, list[str]]:
    """The first words of the splits of a resolved corpus."""
    return first_words(dataset.load(dataset.resolve(Config(data=data)), lambda line: None, wanted))


def refused(data: str, **settings) -> str:
    with pytest.raises(InputError) as caught:
        dataset.load(dataset.resolve(Config(data=data, **settings)), lambda line: None)
    assert str(caught.value).isprintable() and str(caught.value).startswith(data)
    return str(caught.value)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, parts",
    [
        ("someone/news", ("someone/news", None, None)),
        ("some.one/n-1:en", ("some.one/n-1", "en", None)),
        ("someone/news@refs/pr/1", ("someone/news", None, "refs/pr/1")),
        ("someone/news:en@v1", ("someone/news", "en", "v1")),
        ("corpora/train.conll", None),
        ("corpora/train.parquet", None),
        ("../news", None),
        ("/someone/news", None),
        ("news", None),
        ("a/b/c", None),
        ("someone/news@", None),
    ],
)
def test_what_is_a_name(text, parts):
    assert hub.parse(text) == parts


def test_a_local_path_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_name(REPO) and not hub.is_name(None)
    Path(REPO).mkdir(parents=True)
    assert not hub.is_name(REPO)
    assert dataset.resolve(Config(data=REPO)).data == str(tmp_path / REPO)


def test_in_a_toml_file_a_name_stays_a_name_and_a_path_becomes_absolute(tmp_path):
    (tmp_path / "x.toml").write_text('data = "someone/news:en@v1"\n')
    assert load_toml(tmp_path / "x.toml").data == "someone/news:en@v1"
    (tmp_path / "someone").mkdir()
    (tmp_path / "someone" / "news:en@v1").write_text("")
    assert load_toml(tmp_path / "x.toml").data == str(tmp_path / "someone" / "news:en@v1")


# --- from the server --------------------------------------------------------------------------------------------------


def test_shards_are_read_in_order_and_only_what_is_needed_is_fetched(server, part):
    commit = server.push(
        REPO,
        {
            "README.md": b"# News",
            "data/train-00000-of-00002.parquet": part("a", "b"),
            "data/train-00001-of-00002.parquet": part("c"),
            "data/validation-00000-of-00001.parquet": part("d"),
            "data/test-00000-of-00001.parquet": part("e"),
            "data/unsupervised-00000-of-00001.parquet": b"not read",
        },
    )
    resolved = dataset.resolve(Config(data=REPO))
    assert resolved.data == f"{REPO}@{commit}"
    assert first_words(dataset.load(resolved, lambda line: None, ["test"])) == {"test": ["e"]}
    assert server.fetched() == ["README.md", "data/test-00000-of-00001.parquet"]
    sentences = dataset.load(resolved, lambda line: None)
    assert first_words(sentences) == {"train": ["a", "b", "c"], "validation": ["d"], "test": ["e"]}
    assert sentences["test"][0].tags == ["B-per", "O"]
    names = ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001")
    assert server.fetched() == [f"data/{name}.parquet" for name in names]
    server.asked.clear()
    server.push(REPO, {"data/train-0.parquet": part("z")})
    assert load(REPO)["train"] == ["a", "b", "c"] and not server.asked, "the copy in the cache is taken"


def test_the_card_names_files_and_tags(server, part):
    files = {
        "README.md": CARD.encode(),
        "corpus/first-1.parquet": part("a", named=False),
        "corpus/first-2.parquet": part("b", named=False),
        "corpus/second.parquet": part("c", named=False),
        "corpus/more.parquet": b"not read",
        "data/train-0.parquet": b"not read",
    }
    server.push(REPO, files)
    assert load(REPO) == {"train": ["a", "b"], "validation": ["c"]}


def test_a_split_s_own_name_goes_before_its_other_names_and_tags_are_of_the_same_configuration(server, part):
    files = [{"split": split, "path": f"{split}.parquet"} for split in ("train", "testing", "test")]
    card = json.dumps({"configs": [{"config_name": "de", "data_files": files}], "dataset_info": {"config_name": "en"}})
    server.push(REPO, {"README.md": f"---\n{card}\n---\n".encode(), **{f"{one['split']}.parquet": part(one["split"]) for one in files}})
    assert hub.find(REPO).files["test"] == ["test.parquet"]
    info = {"config_name": "en", "features": [{"name": "tags", "sequence": {"class_label": {"names": {"0": "O", "1": "B-x"}}}}]}
    assert hub._tag_names({"dataset_info": info}, "en") == ("O", "B-x") and hub._tag_names({"dataset_info": info}, "de") == ()


@pytest.mark.parametrize(
    "card", [b"---\nconfigs: 3\ndataset_info: [x]\n---\n", b"---\na: [\n---\n", b"---\nconfigs: [{data_files: [{}, 1]}]\n---\n"]
)
def test_a_card_that_says_nothing_useful_is_passed_over(server, part, card):
    server.push(REPO, {"README.md": card, "train.parquet": part("a"), "dev.parquet": part("b")})
    assert load(REPO) == {"train": ["a"], "validation": ["b"]}


def test_one_of_several_configurations_must_be_named(server, part):
    server.push(REPO, {f"{name}/{split}-0.parquet": part(f"{name}-{split}") for name in ("en", "de") for split in ("train", "dev")})
    assert load(f"{REPO}:de") == {"train": ["de-train"], "validation": ["de-dev"]}
    assert "has 2 configurations; name one, as OWNER/NAME:CONFIG, of de, en" in refused(REPO)
    assert "no configuration 'fr'; name one of de, en" in refused(f"{REPO}:fr")


def test_the_converted_branch_serves_a_repository_without_parquet(server, part):
    server.push(REPO, {"README.md": b"", "news.py": b"a script", "train.jsonl": b"{}"})
    converted = {"default/train/0000.parquet": part("a"), "default/train/0001.parquet": part("b"), "default/test/0000.parquet": part("c")}
    commit = server.push(REPO, converted, "refs/convert/parquet")
    resolved = dataset.resolve(Config(data=REPO))
    assert resolved.data == f"{REPO}@{commit}"
    assert first_words(dataset.load(resolved, lambda line: None, ["test"])) == {"test": ["c"]}


def test_a_validation_split_is_made_where_there_is_none(server, part):
    words = [f"w{number}" for number in range(60)]
    server.push(REPO, {"train.parquet": part(*words), "test.parquet": part("t")})
    said: list[str] = []
    splits = first_words(dataset.load(dataset.resolve(Config(data=REPO)), said.append))
    assert sorted(splits["train"] + splits["validation"]) == sorted(words) and 1 <= len(splits["validation"]) <= 15
    assert splits["test"] == ["t"] and "no validation split" in said[-1]
    assert load(REPO, ["train"])["train"] == splits["train"] and load(REPO, ["validation"])["validation"] == splits["validation"]


def test_refusals(server, part):
    assert "the hub has no such name, or it is private" in refused("no/such")
    server.push(REPO, {"news.py": b"a script"})
    assert "no Parquet files" in refused(REPO) and "to_parquet" in refused(REPO)
    server.push(REPO, {"train.parquet": part("a")})
    assert "no such branch, tag or commit" in refused(f"{REPO}@v9")
    assert "no such branch, tag or commit" in refused(f"{REPO}@{'0' * 40}")
    assert "--format does not go with" in refused(f"{REPO}@{server.branches[REPO]['main']}", format="jsonl")
    server.push("closed/news", {"README.md": b"", "train.parquet": part("a")})
    server.gated.add("closed/news")
    assert "hf auth login" in refused("closed/news")
    server.push("bad/news", {"train-00001-of-00002.parquet": part("a")})
    assert "has 2 shards from 0 on, and 1 are there" in refused("bad/news")


def test_a_training_run_needs_a_training_split(server, part, tiny):
    server.push(REPO, {"test.parquet": part("a")})
    with pytest.raises(InputError, match="no training split, only test"):
        dataset.prepare(dataset.resolve(Config(data=REPO, encoder=str(tiny))), None, lambda line: None)


# --- offline ----------------------------------------------------------------------------------------------------------


def prepare_cache(cache: Path, files: dict[str, bytes], revision: str = "main", commit: str = "c" * 40) -> None:
    """The layout that huggingface_hub gives its cache, without the listing that only its newer versions keep."""
    repo = cache / "datasets--someone--news"
    (repo / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
    (repo / "refs" / revision).write_text(commit)
    for name, content in files.items():
        path = repo / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("revision", ["main", "refs/convert/parquet"])
def test_a_prepared_cache_serves_offline(cache, part, revision):
    prepare_cache(cache, {"default/train/0000.parquet": part("a"), "default/validation/0000.parquet": part("b")}, revision)
    assert load(REPO) == {"train": ["a"], "validation": ["b"]}
    assert load(f"{REPO}@{'c' * 40}") == {"train": ["a"], "validation": ["b"]}


def test_offline_without_a_copy_is_one_line(cache, part):
    assert "in the hub's cache, and the hub did not give it (it was not reached)" in refused(REPO)
    prepare_cache(cache, {"data/train-00001-of-00002.parquet": part("a")})
    assert "shards" in refused(REPO)
    assert "in the hub's cache" in refused(f"{REPO}@v1")


def test_what_was_fetched_serves_offline_and_a_part_of_it_does_not(server, part, monkeypatch):
    server.push(REPO, {"train/0.parquet": part("a"), "train/1.parquet": part("b"), "dev/0.parquet": part("c")})
    assert load(REPO, ["validation"]) == {"validation": ["c"]}
    resolved = dataset.resolve(Config(data=REPO)).data
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert load(REPO, ["validation"]) == {"validation": ["c"]}
    assert "not whole in the hub's cache, and the hub did not give the rest (it was not reached)" in refused(resolved)


# --- a run on a dataset from the hub ----------------------------------------------------------------------------------


def test_a_resume_and_an_evaluation_use_the_commit_of_the_run(server, part, cache, tmp_path):
    commit = server.push(REPO, {"train.parquet": part("a", "b"), "dev.parquet": part("c"), "test.parquet": part("d")})
    run = tmp_path / "run"
    config = run_folder.named(dataset.resolve(Config(data=REPO, output=str(run))))
    run.mkdir()
    (run / "config.toml").write_text(to_toml(config))
    assert config.data == load_toml(run / "config.toml").data == f"{REPO}@{commit}"
    run_folder.check(dataclasses.replace(config, overwrite=True))

    newer = server.push(REPO, {"train.parquet": part("x"), "dev.parquet": part("y")})
    cache.rename(tmp_path / "gone")  # as on another machine
    for given in (REPO, config.data):
        assert dataset.resolve(Config(data=given, output=str(run), resume=True)).data == f"{REPO}@{commit}"
    assert dataset.resolve(Config(data=f"{REPO}@main", output=str(run), resume=True)).data == f"{REPO}@{newer}"

    def score(**given):
        return evaluate.corpus_of(evaluate.Arguments(ckpt=str(run), **given), lambda line: None)

    sentences, name = score(split="test")
    assert [s.words[0] for s in sentences] == ["d"] and name == f"test split of {REPO}@{commit}"
    sentences, name = score(data=REPO)
    assert [s.words[0] for s in sentences] == ["x", "y"] and name == f"all splits of {REPO}@{newer}"
    with pytest.raises(InputError, match="the corpus has no test split"):
        score(data=REPO, split="test")


def test_the_model_card_names_the_dataset():
    scores = Evaluation([["Kofi"]], [["B-per"]], [["B-per"]], [[1.0]]).scores
    config = Config(data=f"{REPO}:en@{'c' * 40}", output="/runs/x")
    text = model_card(config, scores, splits={"train": 1, "validation": 1}, device="cpu", seconds=1.0)
    assert f"Data: {REPO}:en@{'c' * 40}: 1 train" in text
    assert f"datasets:\n- {REPO}\n" in text and f"type: {REPO}\n" in text and f"revision: {'c' * 40}\n" in text


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_parquet_shards(tmp_path, part):
    (tmp_path / "data").mkdir()
    for number, word in enumerate("abc"):
        (tmp_path / "data" / f"train-{number:05}-of-00003.parquet").write_bytes(part(word))
    (tmp_path / "data" / "validation-00000-of-00001.parquet").write_bytes(part("v"))
    assert load(str(tmp_path)) == {"train": ["a", "b", "c"], "validation": ["v"]}
    (tmp_path / "data" / "train-00001-of-00003.parquet").unlink()
    assert "0, 2 are there" in refused(str(tmp_path))


def test_a_folder_of_text_files(tmp_path):
    for name in ("train", "dev", "other"):
        (tmp_path / f"x.{name}.conll").write_text(f"{name} B-per\n")
    said: list[str] = []
    assert first_words(dataset.load(Config(data=str(tmp_path)), said.append)) == {"train": ["train"], "validation": ["dev"]}
    assert said == [f"{tmp_path}: not read, because their names tell no split: x.other.conll"]
    sentences, name = evaluate.corpus_of(evaluate.Arguments(ckpt="none", data=str(tmp_path)), said.append)
    assert [s.words[0] for s in sentences] == ["train", "dev"] and name == "all splits"


def test_a_format_that_is_named_is_that_of_all_files_of_a_folder(tmp_path):
    for name in ("eng.train", "eng.dev"):
        (tmp_path / name).write_text(f"{name} B-per\n")
    assert first_words(dataset.load(Config(data=str(tmp_path), format="conll"), print)) == {
        "train": ["eng.train"],
        "validation": ["eng.dev"],
    }


def test_files_of_another_corpus_in_the_folder_are_named(tmp_path):
    formats.write(tmp_path / "train.jsonl", [Sentence([f"w{n}"], ["B-x"]) for n in range(60)])
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "dev.conll").write_text("v O\n")
    said: list[str] = []
    dataset.load(Config(data=str(tmp_path)), said.append)
    assert said[0] == f"{tmp_path}: not read, because a folder is a corpus of its own: extra/dev.conll"


def test_a_text_that_two_files_hold_is_one_document_and_files_of_one_name_are_two(tmp_path):
    for number in (1, 2):
        (tmp_path / f"train-{number}").mkdir()
        (tmp_path / f"train-{number}" / "a.jsonl").write_text('{"text": "alex sings", "spans": []}\n')
    (tmp_path / "dev.conll").write_text("v O\n")
    for documents, distinct in (("marked", 1), ("file", 2)):
        splits = dataset.load(Config(data=str(tmp_path), documents=documents), lambda line: None)
        assert len({s.document for s in splits["train"]}) == distinct


def test_documents_that_each_text_file_counts_anew_stay_apart(tmp_path):
    for number in (1, 2):
        (tmp_path / f"train-{number}.jsonl").write_text(f'{{"tokens": ["a{number}"], "tags": ["O"], "doc_id": "1"}}\n')
    (tmp_path / "dev.conll").write_text("v O\n")
    train = dataset.load(Config(data=str(tmp_path)), lambda line: None)["train"]
    assert [s.document for s in train] == ["train-1.jsonl 1", "train-2.jsonl 1"]


def test_documents_of_parquet_shards_are_those_of_the_corpus_unless_each_file_is_one(tmp_path):
    for number in (0, 1):
        columns = {"tokens": [[f"a{number}"]], "tags": [["O"]], "doc_id": ["d"]}
        put(tmp_path / f"train-0000{number}-of-00002.parquet", columns)
    (tmp_path / "dev.conll").write_text("v O\n")
    for documents, distinct in (("marked", 1), ("file", 2)):
        splits = dataset.load(Config(data=str(tmp_path), documents=documents), lambda line: None)
        assert len({s.document for s in splits["train"]}) == distinct


def test_folders_that_are_refused(tmp_path, part):
    assert "no file's name tells its split" in refused(str(tmp_path))
    for name in ("en", "de"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.parquet").write_bytes(part(name))
    assert "holds 2 corpora; give one folder in it, of de, en" in refused(str(tmp_path))
    (tmp_path / "a.train.conll").write_text("a O\n")
    (tmp_path / "b.train.conll").write_text("b O\n")
    assert "2 files for one split that are not its shards" in refused(str(tmp_path))


def test_names_of_the_fixture_agree_with_the_card():
    assert all(name in CARD for name in NAMES)
