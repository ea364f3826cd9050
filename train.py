"""Fine-tune an encoder for named-entity recognition: a run, from the corpus to the best model; the update is in ner/step.py.

python train.py --help
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from ner.config import Config, train_config
from ner.errors import RunStopped, run_main

if TYPE_CHECKING:
    from ner.strategy import Devices


def main(arguments: list[str]) -> int:
    """Settings, then devices, which can only be set up before anything else touches TensorFlow."""
    config = train_config(arguments)

    from ner import strategy  # here, not above, so that --help needs no TensorFlow

    strategy.import_tensorflow()
    devices = strategy.choose(
        config.tpu,
        timeout=config.tpu_timeout,
        look_timeout=config.tpu_look_timeout,
        gpus=config.gpus,
        cpu_replicas=config.cpu_replicas,
    )
    with devices.watched():  # if another worker dies, this one ends with a message
        return train(config, devices)


def train(config: Config, devices: Devices) -> int:
    """Data, model, update, and the epochs."""
    import tensorflow as tf

    from ner import batches, budget, corpus, dataset, inference, pretrained, rehearsal, run_folder, scoring, step, strategy
    from ner.optimizer import AdamW, learning_rates
    from ner.progress import say
    from ner.run import Run

    replicas = devices.strategy.num_replicas_in_sync
    dtype = strategy.compute_dtype(config.compute_dtype, devices.kind)
    device_line = f"{devices.reason}; {replicas} {'replica' if replicas == 1 else 'replicas'}, products in {dtype.name}"
    say(f"device: {device_line}")

    # --- Data: sentences -> tags -> word pieces ---
    with devices.together():  # an input error of one worker ends all
        config = run_folder.named(dataset.resolve(config), devices.workers)
        if devices.chief:
            run_folder.check(config)
        encoder = pretrained.find(config.encoder, config.encoder_revision)
        data = dataset.prepare(config, encoder, say)
    # What was not given follows from the corpus.
    config = budget.filled(dataclasses.replace(config, case=data.case), data.train, data.validation, encoder.shape.hidden_size)
    say(budget.line(config, data.train))
    words, gold = corpus.Words(data.splits["validation"]), [s.tags for s in data.splits["validation"]]

    # --- Model and optimizer: the same variables on every replica ---
    with devices.together(), devices.strategy.scope():
        model = pretrained.build(
            encoder,
            data.tags.names,
            head=config.head,
            cased=data.pieces.cased,
            seen=data.train.distinct_pieces(),  # the other pieces' embeddings would get no gradient
            dropout=config.dropout,
            encoder_dropout=config.encoder_dropout,
            compute_dtype=dtype,
            seed=config.seed,
        )
        pretrained.load(model, encoder, head=False)
        model.head.count(data.targets.tag_ids, data.splits["train"].lengths)
        optimizer = AdamW(model.trained, weight_decay=config.weight_decay, layer_decay=config.layer_decay)

    # --- The update: forward, loss, backward, sum over replicas, clipping, AdamW (ner/step.py) ---
    # Another loss: pass a step.LossFunction in place of model.head.loss. Another head: a class like LinearHead of ner/tagger.py, in a file
    # like ner/counted.py, named in HEADS of ner/pretrained.py. Another optimizer: a tf.Module with update and last_update_norm as AdamW
    # in ner/optimizer.py has them; all its variables are saved.
    jit = devices.kind == "gpu"  # a TPU always does; on a CPU only element-wise parts (ner/fused.py) and AdamW are compiled
    update = step.make_update(
        devices.strategy,
        model,
        optimizer,
        model.head.loss,
        seed=config.seed,
        clip_norm=config.clip_norm,
        accumulate=config.accumulate,
        jit=jit,
    )
    predict = step.make_predict(devices.strategy, model, jit=jit)

    if config.dry_run:
        rehearsal.rehearse(config, devices.strategy, update, data)
        return 0

    # --- The run: its folder is started, or continued with --resume ---
    # A resume needs an intact checkpoints/step-N in it (weights, Adam's moments, state) and model/, the best so far. Another training or
    # validation corpus, encoder, or setting that changes the result is refused (run_folder.fingerprint). The loop goes on behind the last
    # update that the checkpoint holds.
    with Run(config, devices, data, encoder, model, optimizer, dtype) as run:
        state = run.state
        if not state.finished:
            row_lengths = batches.row_lengths(config.batching, data.train.row_length)
            update_seconds = step.compile_ahead(
                update, devices.strategy, row_lengths, rows_per_step=config.rows, most=config.steps_per_call, accumulate=config.accumulate
            )
            seconds = budget.seconds(config, data.train, data.validation, update_seconds)
            say(f"time: about {budget.in_words(seconds)} of training and validation, {update_seconds:.2f} s an update")

        while not state.finished:
            # The epoch's rows: a function of (seed, epoch) alone.
            epoch = batches.make_epoch(
                data.train,
                data.targets,
                batching=config.batching,
                rows_per_step=config.rows,
                seed=config.seed,
                epoch=state.epoch,
                cased=data.pieces.cased,
            )
            # The length of the schedule: counted on the first epoch, and from then on part of the state.
            state.total_steps = state.total_steps or config.epochs * epoch.steps
            calls = batches.host_calls(
                devices.strategy,
                epoch,
                state.step_in_epoch,
                most=config.steps_per_call,
                stops=run.stops(epoch.steps),  # where a validation or a checkpoint is due
                accumulate=config.accumulate,
            )

            # Training: one call from Python (a host call) runs up to steps_per_call updates.
            with run.progress_bar(epoch.steps):
                for call in calls:
                    # One rate for each update of the call: linear warm-up over the first `warmup` of total_steps, then constant, or
                    # linear decay, which would reach 0 one update after the last (ner/optimizer.py).
                    rates = learning_rates(
                        state.step,
                        config.steps_per_call,  # whatever the steps of this call: one shape, one trace
                        state.total_steps,
                        peak=config.learning_rate,
                        warmup=config.warmup,
                        schedule=config.schedule,
                    )
                    with run.clock():
                        count, first = tf.constant(call.steps, tf.int64), tf.constant(state.step, tf.int64)
                        metrics = step.wait(update(call.iterator, count, first, tf.constant(rates)))
                    state.advance(call.steps, epoch.steps)
                    # To TensorBoard and metrics.jsonl. If an update of the call was skipped, this raises instead: nothing of the call is
                    # recorded or saved, though its other updates were applied. With --non-finite skip the run goes on.
                    run.record_updates(call, metrics, float(rates[call.steps - 1]))

                    # Validation: every `validate_every` updates (0: after each epoch), and after the last. A word's scores are those of its
                    # first piece; the head makes one tag a word of them, and first tunes its decoding on these sentences (ner/counted.py).
                    # F1 is seqeval's default.
                    validated = run.validation_due()
                    if validated:
                        predicted, confidence = inference.tag(predict, devices.strategy, data.validation, model.head, words, gold=gold)
                        evaluation = scoring.Evaluation(words, gold, predicted, confidence)
                        # The best model so far is kept; the first one always is.
                        best = state.note_validation(evaluation.scores.f1)
                        if best:
                            run.save_model(evaluation.scores, device_line)
                        state.finished = state.epoch == config.epochs or 0 < config.patience <= state.not_better
                        run.record_validation(evaluation, best, epoch.steps)

                    # A checkpoint: after each validation; every --checkpoint-every-steps or --checkpoint-every-minutes; and after
                    # SIGTERM or Ctrl-C on any worker.
                    stop = run.stop_asked()
                    if validated or stop or run.checkpoint_due():
                        run.save()
                    if state.finished:
                        break
                    if stop:
                        raise RunStopped(f"stopped after step {state.step}; --resume continues")

    say(f"best validation F1 {state.best_f1} (seqeval default mode) after step {state.best_step}; model in {run.folder / 'model'}")
    say(f"next: python evaluate.py --ckpt {run.folder} --html errors.html    tensorboard --logdir {run.folder.parent} --host localhost")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
