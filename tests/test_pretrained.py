from __future__ import annotations

import dataclasses
import json
import os
import shutil

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache
from safetensors.numpy import load_file, save_file

from ner import bert, pretrained
from ner.errors import InputError
from ner.wordpieces import WordPieces


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


TAGS = ("B-geo", "B-per", "I-geo", "I-per", "O")


def model_of(folder, **options):
    return pretrained.build(pretrained.read(folder), TAGS, seed=3, **options)


def load(model, folder, *, head=True):
    pretrained.load(model, pretrained.read(folder), head=head)


def save(model, folder, *, source, **options):
    read = pretrained.read(source)
    pretrained.save(model, folder, **{"source": read, "pieces": WordPieces.load(read), **options})


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("head", pretrained.HEADS)
def test_every_variable_of_the_model_has_its_own_place(tiny, head):
    model = model_of(tiny, head=head)
    placed = [tensor.variable for tensor in model.tensors()]
    names = [name for tensor in model.tensors() for name in tensor.names]
    assert len(placed) == len({id(v) for v in placed}) == len(model.weights) and len(names) == len(set(names))


def test_save_then_load_is_the_identity(tiny, tmp_path):
    model = model_of(tiny)
    load(model, tiny, head=False)
    save(model, tmp_path / "out", source=tiny, notes={"row_length": 64})
    saved, original = load_file(tmp_path / "out" / "model.safetensors"), load_file(tiny / "model.safetensors")
    assert set(saved) == set(original) and saved["classifier.weight"].shape == (5, 32)
    for name in saved:
        if not name.startswith("classifier"):
            np.testing.assert_array_equal(saved[name], original[name])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"] and config["id2label"]["4"] == "O"
    assert pretrained.read(tmp_path / "out").tags == TAGS
    again = model_of(tiny)
    load(again, tmp_path / "out")
    for one, other in zip(again.tensors(), model.tensors(), strict=True):
        for name, value in one.to_file().items():
            np.testing.assert_array_equal(value, other.to_file()[name])


def test_a_saved_folder_opens_in_transformers(tiny, tmp_path):
    """With the classes that users call; they need no PyTorch. Transitions stand in a file of their own."""
    from transformers import AutoConfig, AutoTokenizer

    for head in pretrained.HEADS:
        save(model_of(tiny, head=head), tmp_path / head, source=tiny, notes={"head": head})
        config, tokenizer = AutoConfig.from_pretrained(tmp_path / head), AutoTokenizer.from_pretrained(tmp_path / head)
        assert type(config).__name__ == "BertConfig" and config.id2label == dict(enumerate(TAGS))
        ids = tokenizer(["alex", "lives"], is_split_into_words=True)["input_ids"]
        assert ids == WordPieces.load(pretrained.read(tiny)).encode([["alex", "lives"]], 64).pieces.tolist()
    assert len({frozenset(load_file(tmp_path / head / "model.safetensors")) for head in pretrained.HEADS}) == 1


def test_the_saved_tokenizer_neither_cuts_nor_pads(tiny, folder, tmp_path):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    save(model_of(tiny), tmp_path / "out", source=folder)
    saved = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None


def test_the_written_forms_begin_as_the_plain_pieces_and_are_saved_in_one_table(tiny, tmp_path):
    source = pretrained.read(tiny)
    pieces = WordPieces.load(source).with_case(source.shape.vocab_size)
    model = model_of(tiny, cased=pieces.cased)
    load(model, tiny, head=False)
    assert not model.encoder.word_embeddings.forms.numpy().any()
    model.encoder.word_embeddings.forms.assign(np.arange(64, dtype=np.float32).reshape(2, 32))
    save(model, tmp_path / "out", source=tiny, pieces=pieces)
    table, own = (load_file(folder / "model.safetensors")[bert.WORDS] for folder in (tmp_path / "out", tiny))
    saved = pretrained.read(tmp_path / "out")
    number = {piece: WordPieces.load(saved).tokenizer.token_to_id(piece) for piece in ("london", "London", "LONDON", "##S")}
    assert len(table) == saved.shape.vocab_size > len(own) and number["london"] < len(own) <= number["London"]
    for piece, plain, form in (("london", "london", None), ("London", "london", 0), ("LONDON", "london", 1), ("##S", "##s", 1)):
        vector = 0 if form is None else model.encoder.word_embeddings.forms.numpy()[form]
        np.testing.assert_allclose(table[number[piece]], own[pieces.tokenizer.token_to_id(plain)] + vector, rtol=1e-6)
    load(model_of(tmp_path / "out"), tmp_path / "out")


def test_a_model_of_the_version_that_kept_case_in_token_types_is_refused(folder):
    set_key("ner", {"row_length": 32, "case": True})(folder)
    set_key("type_vocab_size", 5)(folder)
    with pytest.raises(InputError, match="train it again"):
        pretrained.read(folder)


@pytest.mark.parametrize(("noted", "expected"), [(48, 48), (1000, 64), (7, 64), (True, 64), (None, 64)])
def test_rows_are_as_long_as_in_training_and_never_longer_than_the_encoder_reads(folder, noted, expected):
    """Longer than 512 too, where the encoder has the positions: other windows would give another F1 than training printed."""
    set_key("ner", {"row_length": noted})(folder)
    assert pretrained.read(folder).shape.longest_row == 64
    assert pretrained.read(folder).row_length == expected
    shape = dataclasses.replace(pretrained.read(folder).shape, max_position_embeddings=2048)
    assert dataclasses.replace(pretrained.read(folder), shape=shape).row_length == (noted if noted in (48, 1000) else 512)


@pytest.mark.parametrize("family", ["tiny_bert", "tiny_distilbert", "tiny_modernbert"])
def test_an_encoder_without_a_place_for_a_word_is_refused(tiny, tmp_path, family):
    folder = shutil.copytree(tiny.with_name(family), tmp_path / family)
    set_key("max_position_embeddings", 2)(folder)
    with pytest.raises(InputError, match="enough for 2 word pieces"):
        pretrained.read(folder)


def test_bare_and_old_checkpoints_load(folder):
    """Without the ``bert.`` prefix, with gamma and beta, with pooler and pre-training heads."""

    def old(tensors):
        for name in list(tensors):
            renamed = name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[renamed] = tensors.pop(name)
        tensors["pooler.dense.weight"] = np.zeros((32, 32), np.float32)
        tensors["cls.predictions.bias"] = np.zeros(119, np.float32)
        tensors["embeddings.position_ids"] = np.arange(64)[None]

    expected = load_file(folder / "model.safetensors")["bert.embeddings.LayerNorm.weight"]
    rewrite(folder, old)
    model = model_of(folder)
    load(model, folder)
    np.testing.assert_array_equal(model.encoder.embedding_scale.numpy(), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bert.encoder.layer.1.attention.self.key.bias"), "key.bias is missing"),
        (lambda t: t["bert.encoder.layer.1.output.dense.bias"].fill(np.nan), "dense.bias has values that are not finite"),
        (lambda t: t.update(extra=np.zeros(3, np.float32)), "bert.extra has no place in the model"),
        (lambda t: t.update({"bert.encoder.layer.0.output.dense.weight": np.zeros((32, 63), np.float32)}), "is [32, 63], not [32, 64]"),
    ],
    ids=["missing", "not finite", "unused", "shape"],
)
def test_weights_that_do_not_fit_are_listed_and_nothing_is_assigned(folder, change, message):
    rewrite(folder, change)
    model = model_of(folder)
    before = [v.numpy().copy() for v in model.trained.values()]
    with pytest.raises(InputError) as error:
        load(model, folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    for old, new in zip(before, model.trained.values(), strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def set_key(key, value):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        config[key] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_key("model_type", "deberta-v2"), "model_type is 'deberta-v2', not 'bert', 'roberta', 'xlm-roberta'"),
        (set_key("hidden_act", "swish"), "hidden_act 'swish'"),
        (set_key("position_embedding_type", "relative_key"), "position_embedding_type"),
        (set_key("hidden_size", "32"), "hidden_size is '32'"),
        (set_key("hidden_size", 30), "is not a multiple of"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: os.truncate(f / "model.safetensors", 100), "model.safetensors: config.json asks for 22,304 weights"),
        (lambda f: os.truncate(f / "model.safetensors", 80_000), "model.safetensors: cannot be read"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "cannot be read"),
        (set_key("vocab_size", 10**6), "bytes can hold"),
        (set_key("type_vocab_size", 10**6), "type_vocab_size is 1000000"),
        (set_key("vocab_size", 10**12), "vocab_size is 1000000000000"),
        (set_key("num_hidden_layers", 10**9), "num_hidden_layers is 1000000000"),
        (set_key("intermediate_size", -1), "intermediate_size is -1"),
        (set_key("hidden_dropout_prob", 1), "hidden_dropout_prob is 1"),
        (set_key("layer_norm_eps", float("nan")), "layer_norm_eps is nan"),
    ],
)
def test_a_folder_that_is_no_bert_is_refused_in_one_line(folder, change, message):
    change(folder)
    with pytest.raises(InputError) as error:
        load(model_of(folder), folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def in_parts(folder):
    """The same weights in two files and an index, as transformers writes large ones."""
    tensors = load_file(folder / "model.safetensors")
    parts = {name: f"model-{1 + number % 2:05}-of-00002.safetensors" for number, name in enumerate(tensors)}
    for part in set(parts.values()):
        save_file({name: tensors[name] for name in tensors if parts[name] == part}, folder / part)
    (folder / "model.safetensors").unlink()
    (folder / pretrained.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": parts}))


def test_weights_in_several_files_are_read_as_those_in_one(tiny, folder):
    in_parts(folder)
    one, other = model_of(tiny), model_of(folder)
    load(one, tiny)
    load(other, folder)
    for name, variable in one.trained.items():
        np.testing.assert_array_equal(other.trained[name], variable)
    parts = sorted(folder.glob("model-*.safetensors"))
    assert {part.name for part in parts} < set(pretrained.read(folder).digests)
    parts[1].unlink()
    with pytest.raises(InputError, match="no model-00002-of-00002.safetensors"):
        pretrained.read(folder)
    for index in ("{}", "[", '{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": {"a": 5}}'):
        (folder / pretrained.INDEX).write_text(index)
        with pytest.raises(InputError, match="no index"):
            pretrained.read(folder)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_half_filled_cache_is_completed_or_the_missing_file_is_named(missing, tiny, folder, monkeypatch):
    (folder / missing).unlink()
    (folder / "vocab.txt").unlink()  # which would do for a tokenizer
    online = []

    def fetch(*_, local_files_only=False, **__):
        if online and not local_files_only:
            shutil.copytree(tiny, folder, dirs_exist_ok=True)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(InputError, match=f"'own/net': {missing} is not in the hub's cache"):
        pretrained.find("own/net")
    online.append(True)
    assert WordPieces.load(pretrained.find("own/net")).encode_words(["london"])


@pytest.mark.parametrize("revision", [None, "a" * 40])
def test_a_file_that_the_hubs_listing_names_and_the_cache_lacks_is_named(revision, tiny, tmp_path, monkeypatch):
    repository, commit = tmp_path / "models--own--net", "a" * 40
    copied = shutil.copytree(tiny, repository / "snapshots" / commit)
    listed = {path.name: TreeCacheEntry(size=1, blob_id="b" * 40) for path in copied.iterdir()}
    write_tree_cache(str(repository), commit, listed)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert pretrained.find("own/net", revision).folder.samefile(copied)
    (copied / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"missing \(tokenizer_config.json\)"):
        pretrained.find("own/net", revision)


def test_the_packaged_encoder_is_found_by_its_hub_name_offline():
    assert pretrained.find("sentence-transformers/all-MiniLM-L6-v2").shape.hidden_size == 384


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no such model", "./nowhere", "/nowhere", "a/b/c", ""])
def test_an_unknown_encoder_is_refused_in_one_line(name):
    with pytest.raises(InputError) as error:
        pretrained.find(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("label", ["LABEL_1", "E-per", "U-per"])
def test_labels_that_are_no_iob_tags_are_refused(folder, label):
    set_key("id2label", {"0": "O", "1": label})(folder)
    with pytest.raises(InputError, match=label):
        _ = pretrained.read(folder).tags


def test_a_list_of_checksums_that_leaves_a_file_out_is_refused(folder, tmp_path):
    model = model_of(folder, head="crf")
    save(model, tmp_path / "model", source=folder)
    pretrained.verify(tmp_path / "model")
    sums = tmp_path / "model" / pretrained.SUMS
    lines = sums.read_text().splitlines(keepends=True)
    files = ("model.safetensors", "crf.safetensors")
    for kept in ([], *([line for line in lines if name not in line] for name in files)):
        sums.write_text("".join(kept))
        with pytest.raises(InputError, match="does not list"):
            pretrained.verify(tmp_path / "model")


def test_keys_that_are_not_true_of_the_saved_model_are_left_out(folder, tmp_path):
    set_key("num_labels", 9)(folder)
    set_key("auto_map", {"AutoModel": "code.Model"})(folder)
    save(model_of(folder), tmp_path / "out", source=folder)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "num_labels" not in config and "auto_map" not in config and len(config["id2label"]) == 5


def test_heads_of_other_tasks_are_left_out_of_an_encoder_but_not_of_a_model(folder):
    heads = ("classifier.dense.weight", "classifier.out_proj.bias", "pre_classifier.weight", "qa_outputs.weight")
    rewrite(folder, lambda t: t.update({name: np.zeros(3, np.float32) for name in heads}))
    load(model_of(folder), folder, head=False)
    with pytest.raises(InputError, match="classifier.dense.weight has no place"):
        load(model_of(folder), folder)
    rewrite(folder, lambda t: t.update({"classifier.other": np.zeros(3, np.float32)}))
    with pytest.raises(InputError, match="classifier.other has no place"):
        load(model_of(folder), folder, head=False)


def test_weights_tell_of_a_fine_tuning_that_config_json_does_not_name(tiny, tmp_path, capsys):
    folder = shutil.copytree(tiny.with_name("tiny_roberta"), tmp_path / "model")
    set_key("architectures", None)(folder)
    alone = WordPieces.load(pretrained.read(folder)).encode_words(["alex"])
    assert "so was it fine-tuned" in capsys.readouterr().err
    rewrite(folder, lambda t: t.pop("classifier.weight"))
    assert WordPieces.load(pretrained.read(folder)).encode_words(["alex"]) != alone
    assert not capsys.readouterr().err


def test_a_tensor_under_two_names_is_refused(folder):
    rewrite(folder, lambda t: t.update({"embeddings.LayerNorm.weight": t["bert.embeddings.LayerNorm.weight"]}))
    with pytest.raises(InputError, match="twice"):
        load(model_of(folder), folder)


def test_labels_with_a_gap_and_a_head_that_is_no_name_are_refused_in_one_line(folder):
    set_key("id2label", {"0": "O", "2": "B-per"})(folder)
    with pytest.raises(InputError, match="names each tag"):
        _ = pretrained.read(folder).tags
    set_key("ner", {"head": ["x"]})(folder)
    with pytest.raises(InputError, match="its head is"):
        _ = pretrained.read(folder).head
