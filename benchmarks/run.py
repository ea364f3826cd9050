"""Speed side by side with Hugging Face's PyTorch stack.

    python benchmarks/run.py NAME|all [--gmb FILE] [--rounds N] [--seconds S]

NAME: train, train-float32, step, predict, predict-parts, families, encode, startup, scaling or time-to-f1.

Runs in the project's environment; the peers have their own (``make bench`` makes both). Every contender is a process that lives through
the whole benchmark; they take turns, round by round, and only one works at a time. Linux only. ``all`` is all but time-to-f1, which takes
an hour. While the file benchmarks/hold exists no round begins, and the machine is free for other work. A quick look: --gmb SMALL.csv
(1,200 sentences or more) --rounds 1 --seconds 2 --busy --results /tmp/look/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import results, rounds, worker  # noqa: E402
from benchmarks.results import Table, rate_table, rates, spread  # noqa: E402
from benchmarks.rounds import OURS, PEERS, Contender  # noqa: E402

# The peers are not told of case either, and have dropout in the encoder.
EXPERIMENT = ["--config", str(ROOT / "experiments" / "gmb_minilm.toml"), "--no-case", "--encoder-dropout", "0.1"]
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
BASE_SIZE = ROOT / "experiments" / "gmb_bert_base.toml"  # its dropout is the checkpoint's, as the Trainer's
FAMILIES = ("bert-base-uncased", "roberta-base", "distilbert-base-uncased", "electra-small", "ModernBERT-base")
FACTORS = (1, 4, 16)
TRAINER_LEARNING_RATES = {16: 2e-4, 32: 5e-4}  # the best seen for each batch: F1 0.8214 and 0.8185 after three epochs


class Benchmark:
    """What all benchmarks share: the arguments, the corpus files, and what goes into the record."""

    def __init__(self, given: argparse.Namespace, folder: Path):
        self.given, self.folder = given, folder
        # Asked of another process: this one stays small and idle, without TensorFlow's threads.
        find = f"from ner import pretrained; print(pretrained.find({ENCODER!r}).folder)"
        found = subprocess.run([sys.executable, "-c", find], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.encoder = found.stdout.strip()
        self.left_out: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        split = [sys.executable, str(ROOT / "experiments" / "gmb_split.py"), given.gmb, str(folder)]
        subprocess.run(split, check=True, stdout=subprocess.DEVNULL)
        self.train, self.test = str(folder / "first90.jsonl"), str(folder / "last10.jsonl")
        self.few = str(folder / "few.jsonl")  # to validate on where validation is not what is measured
        with open(self.train, "rb") as source:
            Path(self.few).write_bytes(b"".join(itertools.islice(source, 100)))

    def repeated(self, name: str, factor: int) -> str:
        """A file whose lines stand in it ``factor`` times, a CSV's header once."""
        source = Path(name)
        head, body = b"", source.read_bytes()
        if source.suffix == ".csv":
            head, _, body = body.partition(b"\n")
            head += b"\n"
        path = self.folder / f"x{factor}_{source.name}"
        path.write_bytes(head + body * factor)
        return str(path)

    def trainer(self, batch: int, name: str = "", **options) -> Contender:
        """Hugging Face's Trainer."""
        return Contender(
            f"Trainer batch {batch}{name}", PEERS, "trainer", {"train": self.train, "encoder": self.encoder, "batch": batch, **options}
        )

    def ours(self, name: str, *arguments: str, train: str | None = None, validation: str | None = None, **options) -> Contender:
        """The update of train.py with these arguments."""
        files = ["--train", train or self.train, "--validation", validation or self.few]
        return Contender(name, OURS, "training", {"arguments": [*EXPERIMENT, *files, *arguments], **options})

    def measure(self, contenders: list[Contender], *, seconds: float | None = None) -> dict[str, list[dict]]:
        """The rounds of all contenders that --only does not leave out; ``seconds`` 0 makes a round one step."""
        workers = self.start(contenders)
        seconds = self.given.seconds if seconds is None else seconds
        return rounds.alternate(workers, self.given.rounds, seconds, self.given.busy, self.left_out)

    def start(self, contenders: list[Contender]) -> list[rounds.Worker]:
        chosen = [c for c in contenders if not self.given.only or c.name in self.given.only.split(",")]
        workers = rounds.start(chosen, self.given.peers, self.given.logs, self.left_out)
        for started in workers:
            self.versions |= started.versions
        return workers


def train(bench: Benchmark) -> tuple[list[Table], object]:
    endless = ["--epochs", "100000"]
    measured = bench.measure(
        [
            bench.ours("ours", *endless),
            *(bench.ours(f"ours rows {rows}", *endless, "--rows", str(rows)) for rows in (32, 64)),
            *(bench.trainer(batch) for batch in (16, 32, 64)),
            bench.trainer(32, " torch_compile", compiled=True),
            bench.trainer(32, " eager attention", attention="eager"),
            Contender("matmul peak", OURS, "matmul_peak", {}),
        ]
    )
    peak = measured.pop("matmul peak", None)
    table = rate_table("Training, real word pieces a second.", "tokens/s", measured, "ours")
    if peak:
        per_token = 6 * matmul_weights(bench.encoder)
        gflops = [rate / 1e9 for rate in rates(peak)]
        table.notes.append(f"Matrix products alone, in the training's type: {spread(gflops)} GFLOP/s.")
        table.header.insert(3, "share of the matmul peak")
        for row, answers in zip(table.rows, measured.values(), strict=True):
            shares = [rate * per_token / 1e9 / g for rate, g in zip(rates(answers), gflops, strict=False)]
            row.insert(3, spread(shares, ".1%"))
        table.notes.append(f"Model FLOPs: 6 x the {per_token // 6:,} weights of the blocks' matrices, {per_token / 1e6:.1f} MFLOP a token.")
    return [table], measured | ({"matmul peak": peak} if peak else {})


def train_float32(bench: Benchmark) -> tuple[list[Table], object]:
    """As on a CPU that does not multiply bfloat16."""
    flags = ["--epochs", "100000", "--compute-dtype", "float32"]
    measured = bench.measure(
        [
            *(bench.ours(f"ours rows {rows}", *flags, "--rows", str(rows)) for rows in (16, 64)),
            *(bench.trainer(batch, bf16=False, every=every) for batch, every in ((16, 1), (64, 4))),
        ]
    )
    return [rate_table("Training with products in float32, real word pieces a second.", "tokens/s", measured, "ours rows 16")], measured


def matmul_weights(encoder: str) -> int:
    """Weights in the matrices of the encoder's blocks: each costs 2 FLOPs a token forward and 4 backward."""
    shape = json.loads(Path(encoder, "config.json").read_text(encoding="utf-8"))
    return shape["num_hidden_layers"] * (4 * shape["hidden_size"] ** 2 + 2 * shape["hidden_size"] * shape["intermediate_size"])


def step(bench: Benchmark) -> tuple[list[Table], object]:
    """The parts of a step at the default rows and at four times as many."""
    contenders = [bench.ours("16 rows"), bench.ours("64 rows", "--rows", "64")]
    measured = bench.measure([dataclasses.replace(c, kind="step_parts") for c in contenders], seconds=0)
    return [parts_table("What an update's time is made of, operations one at a time.", measured)], measured


def parts_table(caption: str, measured: dict[str, list[dict]]) -> Table:
    """A row per part of each contender: milliseconds, and the share of the last round."""
    rows = []
    for name, answers in measured.items():
        total = sum(answers[-1]["stages"].values())
        for part in answers[0]["stages"]:
            each = [1e3 * answer["stages"][part] for answer in answers]
            rows.append([name, part, spread(each, ",.1f"), f"{answers[-1]['stages'][part] / total:.0%}"])
    return Table(caption, ["", "part", "milliseconds", "share"], rows)


def predict(bench: Benchmark) -> tuple[list[Table], object]:
    options = {"model": bench.given.model or quick_model(bench), "test": bench.test}
    int8 = {**options, "model": str(bench.folder / "int8")}
    command = ["export.py", "--ckpt", options["model"], "--output", int8["model"], "--int8", "--data", bench.test, "--max-loss", "100"]
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT)
    measured = bench.measure(
        [
            Contender("ours", OURS, "prediction", options),
            Contender("ours int8", OURS, "prediction", int8),
            Contender("int8 unpacked, sorted, batch 32", OURS, "int8_sorted", {**int8, "batch": 32}),
            Contender("pipeline float32", PEERS, "pipeline", {**options, "dtype": "float32"}),
            Contender("pipeline bfloat16", PEERS, "pipeline", {**options, "dtype": "bfloat16"}),
            *(Contender(f"sorted loop batch {b}", PEERS, "sorted_loop", {**options, "batch": b}) for b in (32, 64)),
        ],
        seconds=0,
    )
    return [rate_table("Prediction, all test sentences a round.", "sentences/s", measured, "ours")], measured


def predict_parts(bench: Benchmark) -> tuple[list[Table], object]:
    options = {"model": bench.given.model or quick_model(bench), "test": bench.test}
    peak = Contender("matmul peak", OURS, "matmul_peak", {})
    measured = bench.measure([Contender("ours", OURS, "prediction_parts", options), peak], seconds=0)
    ours, alone = measured["ours"], rates(measured["matmul peak"])
    table = parts_table("What the time of a prediction is made of, all test sentences, operations one at a time.", {"ours": ours})
    flops, pieces = (2 * matmul_weights(options["model"]) * ours[0][what] for what in ("places", "pieces"))
    gflops, seconds = spread([rate / 1e9 for rate in alone]), spread([flops / rate for rate in alone], ".1f")
    table.notes.extend(
        [
            f"{ours[0]['pieces']:,} word pieces in {ours[0]['places']:,} places, padding included.",
            f"The blocks' matrices: {flops / 1e12:.2f} TFLOP, {pieces / 1e12:.2f} without padding.",
            f"Matrix products alone, in the model's type: {gflops} GFLOP/s; so these would take {seconds} s.",
        ]
    )
    return [table], measured


def families(bench: Benchmark) -> tuple[list[Table], object]:
    """A published shape of each family with random weights: training, and prediction of some of the test sentences."""
    few = bench.folder / "few_test.jsonl"
    with open(bench.test, "rb") as source:
        few.write_bytes(b"".join(itertools.islice(source, 0, None, 12)))
    trained, predicted = {}, {}
    for shape in FAMILIES:
        folder = bench.folder / shape
        command = [bench.given.peers, str(ROOT / "benchmarks" / "shapes.py"), shape, str(folder), bench.encoder, bench.train, str(few)]
        with open(bench.given.logs / f"{shape}.log", "w") as log:
            environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
            made = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        files = ["--train", bench.train, "--validation", bench.few, "--encoder", str(folder)]
        # A round is one host call: five updates, as many as a tenth of the Trainer's cycle.
        arguments = ["--config", str(BASE_SIZE), *files, "--epochs", "1000", "--steps-per-call", "5"]
        trainer = {"train": bench.train, "encoder": str(folder), "every": 10}
        trained[shape] = bench.measure(
            [
                Contender(f"{shape}: ours", OURS, "training", {"arguments": arguments}),
                *(Contender(f"{shape}: Trainer batch {b}", PEERS, "trainer", {**trainer, "batch": b}) for b in (16, 32)),
            ],
            seconds=0,
        )
        options = {"model": str(folder), "test": str(few)}
        predicted[shape] = bench.measure(
            [
                Contender(f"{shape}: ours, prediction", OURS, "prediction", options),
                Contender(f"{shape}: Trainer's predict batch 32", PEERS, "trainer_prediction", {**options, "batch": 32}),
                Contender(f"{shape}: sorted loop batch 32", PEERS, "sorted_loop", {**options, "batch": 32}),
            ],
            seconds=0,
        )
        for answer in itertools.chain.from_iterable(predicted[shape].values()):
            answer["work"] *= int(made.stdout) / sum(1 for _ in few.open())  # sentences to word pieces
        shutil.rmtree(folder)
    tables = [
        joined("Training, random weights, real word pieces a second.", trained, "ours"),
        joined("Prediction, random weights, real word pieces a second.", predicted, "ours, prediction"),
    ]
    tables[0].notes.append("An update of ours has 16 rows of 64 word pieces, about as many word pieces as a batch of 38 sentences.")
    return tables, {"training": trained, "prediction": predicted}


def joined(caption: str, found: dict[str, dict[str, list[dict]]], reference: str) -> Table:
    """The rate tables of all shapes in one."""
    tables = [rate_table(caption, "tokens/s", measured, f"{shape}: {reference}") for shape, measured in found.items()]
    header = [*tables[0].header[:2], "ours / this", *tables[0].header[3:]]
    return Table(caption, header, [row for table in tables for row in table.rows], tables[0].notes)


def quick_model(bench: Benchmark) -> str:
    """A model trained on the shipped sample for an epoch: its speed is that of any other."""
    folder = bench.folder / "quick"
    command = ["train.py", "--config", "experiments/quickstart.toml", "--epochs", "1", "--output", str(folder)]
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return str(folder / "model")


def encode(bench: Benchmark) -> tuple[list[Table], object]:
    options = {"gmb": bench.given.gmb, "encoder": bench.encoder}
    measured = bench.measure(
        [
            Contender("ours", OURS, "encoding", {**options, "cached": False}),
            Contender("ours from the cache", OURS, "encoding", {**options, "cached": True}),
        ],
        seconds=0,
    )
    stages = [
        [name, stage, spread([r["stages"][stage] for r in answers], ".2f")]
        for name, answers in measured.items()
        for stage in answers[0]["stages"]
    ]
    return [
        rate_table("From the CSV to packed rows.", "tokens/s", measured, "ours"),
        Table("Where the time goes.", ["contender", "stage", "seconds"], stages),
    ], measured


def startup(bench: Benchmark) -> tuple[list[Table], object]:
    entries = [f"{name} --help" for name in ("train.py", "evaluate.py", "predict.py")]
    seconds: dict[str, list[float]] = {name: [] for name in [*entries, "train.py to its second step"]}
    for number in range(-1, bench.given.rounds):
        for name in seconds:
            took = help_seconds(name) if name in entries else second_step_seconds(bench)
            print(f"{f'round {number + 1}' if number >= 0 else 'warm-up'}  {name}: {took:.2f} s", flush=True)
            if number >= 0:
                seconds[name].append(took)
    rows = [[name, spread(values, ".2f")] for name, values in seconds.items()]
    return [Table("Process start to exit, or to the end of the second update on all of GMB.", ["command", "seconds"], rows)], seconds


def help_seconds(command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *command.split()], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def second_step_seconds(bench: Benchmark) -> float:
    """Until metrics.jsonl has its first record. With one update a host call it is written when the second update is done."""
    output = bench.folder / "startup"
    shutil.rmtree(output, ignore_errors=True)
    command = ["train.py", *EXPERIMENT, "--data", bench.given.gmb, "--output", str(output), "--steps-per-call", "1"]
    began = time.perf_counter()
    with open(bench.given.logs / "startup.log", "w") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=log, stderr=log)
    try:
        metrics = output / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"train.py ended before its second step; see {log.name}")
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


def scaling(bench: Benchmark) -> tuple[list[Table], object]:
    steps = bench.measure([bench.ours(f"train x{f}", "--epochs", "1000", train=bench.repeated(bench.train, f)) for f in FACTORS])
    options = {f"encode x{f}": {"gmb": bench.repeated(bench.given.gmb, f), "encoder": bench.encoder, "cached": False} for f in FACTORS}
    encoded = bench.measure([Contender(name, OURS, "encoding", given) for name, given in options.items()], seconds=0)
    model = bench.given.model or quick_model(bench)
    memory = {f"x{f}": predict_memory(model, bench.repeated(plain_text(bench), f)) for f in FACTORS}
    return [
        rate_table("Training on GMB repeated, real word pieces a second.", "tokens/s", steps, "train x1"),
        rate_table("From the CSV to packed rows, GMB repeated, a whole corpus a round.", "tokens/s", encoded, "encode x1"),
        Table("predict.py on the test sentences repeated.", ["input", "peak memory, MiB"], [[k, f"{v:,.0f}"] for k, v in memory.items()]),
    ], {"steps": steps, "encode": encoded, "predict_mib": memory}


def plain_text(bench: Benchmark) -> str:
    from ner import formats

    path = bench.folder / "test.txt"
    path.write_text("".join(" ".join(s.words) + "\n" for s in formats.read(bench.test)), encoding="utf-8")
    return str(path)


def predict_memory(model: str, text: str) -> float:
    """Largest resident memory of predict.py over a file, MiB."""
    command = ["predict.py", "--ckpt", model, "--input", text, "--pre-split", "--format", "jsonl"]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"predict.py ended with status {process.returncode}")
    return usage.ru_maxrss / 1024


def time_to_f1(bench: Benchmark) -> tuple[list[Table], object]:
    """Ours and the Trainer trained to the end, in slices by turns; after each epoch the test file is scored, outside the clock."""
    epochs = bench.given.epochs
    lengths = {"ours": epochs, "ours quick": epochs - 1}  # the learning rate ends at zero in each
    quick = ["--encoder-dropout", "0"]  # fewer epochs need less of it
    contenders = [
        bench.ours("ours", "--epochs", str(epochs), validation=bench.test, score=True),
        bench.ours("ours quick", "--epochs", str(epochs - 1), *quick, validation=bench.test, score=True),
        *(bench.trainer(b, learning_rate=rate, epochs=epochs, test=bench.test) for b, rate in TRAINER_LEARNING_RATES.items()),
    ]
    workers = bench.start(contenders)
    found = {one.name: {"set_up": one.setup_seconds, "seconds": 0.0, "others": 0.0, "scored": []} for one in workers}
    running = list(workers)
    while running:
        for one in list(running):
            try:
                note_slice(bench, one, found[one.name])
            except rounds.Ended as end:
                running.remove(one)
                if end.reason:
                    bench.left_out[one.name] = end.reason
    finished = {name: one for name, one in found.items() if len(one["scored"]) == lengths.get(name, epochs)}
    return [f1_table(finished, [name for name in lengths if name in finished])], found


def note_slice(bench: Benchmark, one: rounds.Worker, found: dict) -> None:
    """Let a contender train for a slice, and add to ``found`` what came of it."""
    from ner import formats, scoring

    answer = one.measure(bench.given.seconds)
    found["seconds"] += answer["seconds"]
    found["others"] += answer["others"] * answer["seconds"]
    if "predicted" in answer:
        answer["f1"] = scoring.score([s.tags for s in formats.read(bench.test)], answer["predicted"]).f1
    if "f1" in answer:
        found["scored"].append((found["seconds"], answer["f1"]))
    print(f"{one.name}: {found['seconds']:,.0f} s, F1 after each epoch {[round(f1, 4) for _, f1 in found['scored']]}", flush=True)


def f1_table(found: dict[str, dict], ours: list[str]) -> Table:
    """A row per contender; the last columns compare its end with the first epoch of each of ``ours`` that scores no less."""
    longest = max((len(one["scored"]) for one in found.values()), default=0)
    header = ["contender", "set-up, s", *(f"epoch {n + 1}: s, F1" for n in range(longest))]
    header += [*(f"{name}, reaches its last F1 after" for name in ours), "CPU used by others"]
    rows = []
    for name, one in found.items():
        total, last = one["scored"][-1]
        cells = [f"{s:,.0f}, {f1:.4f}" for s, f1 in one["scored"]] + [""] * (longest - len(one["scored"]))
        for rival in ours:
            reached = next((s for s, f1 in found[rival]["scored"] if f1 >= last), None)
            cells.append(f"{reached:,.0f} s, {reached / total:.2f} of its time" if reached else "not reached")
        rows.append([name, f"{one['set_up']:.0f}", *cells, f"{one['others'] / one['seconds']:.1%}"])
    notes = [
        "Training time alone, evaluation and set-up aside. F1: entities, seqeval's default mode, on the last 10 % of GMB.",
        "ours quick: an epoch less, and no dropout inside the encoder.",
    ]
    return Table("Trained by turns in one run.", header, rows, notes)


BENCHMARKS = {
    "train": train,
    "train-float32": train_float32,
    "step": step,
    "predict": predict,
    "predict-parts": predict_parts,
    "families": families,
    "encode": encode,
    "startup": startup,
    "scaling": scaling,
    "time-to-f1": time_to_f1,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--gmb", default=os.environ.get("GMB_CSV", "ner_dataset.csv"), help="ner_dataset.csv of GMB (default: $GMB_CSV)")
    parser.add_argument("--peers", default=str(ROOT / ".venv-bench" / "bin" / "python"), help="Python of the peers' environment")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds; two more warm up")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a round (train) or a slice (time-to-f1)")
    parser.add_argument("--busy", action="store_true", help="keep rounds that other processes disturbed, to try things out")
    parser.add_argument("--only", help="contenders by name, with commas between")
    parser.add_argument("--model", help="trained model folder (predict, scaling); default: one is trained on the sample")
    parser.add_argument("--epochs", type=int, default=3, help="of time-to-f1")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder of the JSON records")
    given = parser.parse_args()
    if not Path(given.gmb).is_file():
        parser.error(f"no GMB corpus at {given.gmb}: give --gmb, or set GMB_CSV")
    given.gmb = str(Path(given.gmb).resolve())
    return given


def main() -> None:
    given = arguments()
    names = [name for name in BENCHMARKS if name != "time-to-f1"] if given.benchmark == "all" else [given.benchmark]
    for name in names:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            given.logs = Path(folder) / "logs"
            given.logs.mkdir()
            os.environ["NER_CACHE"] = str(Path(folder) / "cache")
            bench = Benchmark(given, Path(folder))
            tables, raw = BENCHMARKS[name](bench)
            command = f"python benchmarks/run.py {name} --rounds {given.rounds} --seconds {given.seconds:g}"
            command += f" --only {shlex.quote(given.only or '')}" * bool(given.only) + " --busy" * given.busy
            command += f" --model {Path(given.model).name}" if given.model else ""
            results.write(given.results, name, command, tables, bench.versions or worker.versions(), raw, bench.left_out)
            print("\n\n".join(["", *(table.markdown() for table in tables)]), flush=True)


if __name__ == "__main__":
    main()
