"""Fine-tune a BERT encoder for named-entity recognition: python train.py --help"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

from ner.config import to_toml, train_config
from ner.errors import InputError, run_main


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    config = train_config(arguments)

    # Devices first: they can only be set up before anything else touches TensorFlow.
    from ner.strategy import choose, compute_dtype, import_tensorflow

    import_tensorflow()
    from ner import batches, dataset, loop, pretrained, run_folder, throughput
    from ner.card import model_card
    from ner.checkpoint import Checkpoints, State
    from ner.dashboard import Dashboard, validation_scalars
    from ner.decoding import decode
    from ner.inference import predict_words
    from ner.optimizer import AdamW
    from ner.progress import say
    from ner.scoring import Evaluation, Scores
    from ner.step import make_predict_step, make_replica_step, make_train_steps, trainable
    from ner.tagger import TaggingModel
    from ner.tagset import TagSet
    from ner.wordpieces import CASES, WordPieces

    devices = choose(
        config.tpu,
        timeout=config.tpu_timeout,
        look_timeout=config.tpu_look_timeout,
        gpus=config.gpus,
        cpu_replicas=config.cpu_replicas,
    )
    strategy, replicas = devices.strategy, devices.strategy.num_replicas_in_sync
    dtype = compute_dtype(config.compute_dtype, devices.kind)
    say(f"device: {devices.reason}; {replicas} replica{'s' * (replicas > 1)}, products in {dtype.name}")

    # Corpus -> tags -> word pieces.
    config = run_folder.named(dataset.resolve(config))
    if devices.chief:
        run_folder.check(config)
    splits = dataset.load(config, say)
    dataset.check_trainable(splits, config)
    tags = TagSet.fit(splits["train"])
    folder = pretrained.find(config.encoder, config.encoder_revision)
    shape = pretrained.encoder_config(folder)
    word_pieces = WordPieces.load(folder, shape.vocab_size, case=config.case)
    if config.case:
        shape = dataclasses.replace(shape, type_vocab_size=CASES)
    longest = shape.max_position_embeddings
    if config.row_length and config.row_length > longest:
        raise InputError(f"--row-length {config.row_length} is more than the encoder's {longest} positions", hint=f"give at most {longest}")
    windows = {"train": word_pieces.encode_cached([s.words for s in splits["train"]], config.row_length, longest)}
    row_length = windows["train"].row_length
    windows["validation"] = word_pieces.encode_cached([s.words for s in splits["validation"]], row_length)
    if cut := sum(w.cut_words for w in windows.values()):
        say(f"warning: {cut} words have more pieces than half a row; only their first {(row_length - 2) // 2} are read")
    labels = batches.Labels(tags.encode([s.tags for s in splits["train"]]), tags.padding_id, config.label_pieces)
    say(
        f"data: {', '.join(f'{len(s):,} {name}' for name, s in splits.items())} sentences from {config.data or config.train}; "
        f"{tags.num_tags} tags; {config.batching} rows of {row_length}"
    )

    # Model and optimizer, with the same variables on every replica.
    with strategy.scope():
        model = TaggingModel(
            shape, tags.num_tags, dropout_rate=config.dropout, encoder_dropout=config.encoder_dropout, compute_dtype=dtype, seed=config.seed
        )
        pretrained.load(model, folder, classifier=False)
        optimizer = AdamW(trainable(model), weight_decay=config.weight_decay, clip_norm=config.clip_norm)
    compile_whole_step = devices.kind == "gpu"  # a TPU always does; on a CPU only the element-wise parts are compiled (ner/fused.py)
    replica_step = make_replica_step(model, optimizer, seed=config.seed, accumulate=config.accumulate, jit=compile_whole_step)
    train_steps = make_train_steps(strategy, replica_step, optimizer.update_norm)
    predict_step = make_predict_step(strategy, model, jit=compile_whole_step)

    # The run's folder: started afresh, or continued from its newest whole checkpoint.
    output = Path(config.output or "")
    fingerprint = run_folder.fingerprint(config, splits, folder, row_length, dtype.name)
    checkpoints = Checkpoints(
        output / "checkpoints",
        trainable(model),
        optimizer,
        keep=config.keep_checkpoints,
        fingerprint=fingerprint,
        chief=devices.chief,
    )
    state = run_folder.resume(checkpoints, say) if config.resume else State()
    if state.finished:
        say(f"{output}: finished already, best validation F1 {state.best_f1} in epoch {state.best_epoch}")
        return 0
    if len(devices.of_all_workers(state.step)) > 1:
        raise InputError("the workers do not resume from the same step", path=output, hint="give all of them one shared --output")
    writes = devices.chief and not config.dry_run
    if writes:
        run_folder.prepare(config, state)
    dashboard = Dashboard(output, step=state.step, chief=writes)
    if state.step == 0:
        dashboard.configuration(to_toml(config), run_folder.hparams(config))

    # Validation: every word of every sentence gets one tag; seqeval scores whole sentences.
    sentences = splits["validation"]
    gold, words = [s.tags for s in sentences], [s.words for s in sentences]

    def validate(step: int) -> tuple[Scores, dict[str, float]]:
        found = predict_words(predict_step, strategy, windows["validation"], tags.num_tags)
        predicted, confidence = decode(found, words, tags.names)
        evaluation = Evaluation(words, gold, predicted, confidence)
        dashboard.validation(step, evaluation)
        return evaluation.scores, validation_scalars(evaluation)

    def save_best(scores: Scores) -> None:
        if not devices.chief:
            return
        noted = {"row_length": row_length, "case": config.case, "compute_dtype": dtype.name, "validation": scores.as_dict()}
        card = model_card(
            config,
            scores,
            splits={name: len(split) for name, split in splits.items()},
            device=f"{devices.reason}; {replicas} replicas, products in {dtype.name}",
            seconds=time.monotonic() - began,
        )
        pretrained.save(model, output / "model", source=folder, tags=tags.names, card=card, extra={"ner": noted})

    peak = throughput.matmul_peak(dtype, shape.hidden_size) * (1 if devices.kind == "cpu" else replicas) if config.measure_peak else None
    if peak:
        say(f"device: {peak / 1e9:,.0f} GFLOP/s of {dtype.name} matrix products, measured")
    run = loop.Run(
        config=config,
        devices=devices,
        train_steps=train_steps,
        windows=windows["train"],
        labels=labels,
        validate=validate,
        save_best=save_best,
        checkpoints=checkpoints,
        dashboard=dashboard,
        flops_per_piece=throughput.flops_per_piece(model),
        peak_flops=peak,
    )
    if config.dry_run:
        loop.rehearse(run)
        return 0
    state = loop.fit(run, state)
    say(f"best validation F1 {state.best_f1} (seqeval default mode) in epoch {state.best_epoch}; model in {output / 'model'}")
    say(f"next: python evaluate.py --ckpt {output}    tensorboard --logdir {output.parent} --host localhost")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
