"""Run the updates that gpu_check.py wrote, on the GPU of this machine by jax: their losses against the CPU's, word pieces per second.

    python gpu_step.py FOLDER [--seconds 5] [--json FILE]

Needs jax, NumPy and tpu_compile.py beside it, and no TensorFlow. The ways in are jax's private ones (0.11.2).
"""

from __future__ import annotations

import argparse
import json
import math
import time
import zlib
from pathlib import Path

import numpy as np

PEAK = 989e12  # an H100's and H200's dense bfloat16 FLOP/s, NVIDIA's data sheet


def weight(name: str, shape) -> np.ndarray:
    """A weight as both machines draw it, float32: matrices from a normal distribution, the factors of LayerNorm one, biases zero."""
    if len(shape) > 1:
        return np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode()))).normal(0, 0.02, tuple(shape)).astype(np.float32)
    return np.full(tuple(shape), float(name.endswith("LayerNorm.weight")), np.float32)


class Update:
    """A compiled update with its weights and moments on the device."""

    def __init__(self, folder: Path, name: str):
        import jax
        from jax._src import compiler
        from jax._src.interpreters import mlir
        from jax._src.lib import _jax
        from jax._src.lib.mlir import ir
        from tpu_compile import prepare

        self.about = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        device = jax.devices()[0]
        with mlir.make_ir_context():
            module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo((folder / f"{name}.hlo").read_bytes()))
            prepare(module.operation)
            options = compiler.get_compile_options(num_replicas=1, num_partitions=1, device_assignment=np.array([[device.id]]))
            began = time.perf_counter()
            self.executable = device.client.compile_and_load(module, _jax.DeviceList((device,)), options)
            self.compile_seconds = time.perf_counter() - began
        jax.config.update("jax_enable_x64", True)  # the step and the number of updates are int64
        self.put = lambda value: jax.device_put(value, device)
        self.state = []
        for name in self.about["parameters"][8:]:
            kind, _, variable = name.partition(" ")
            shape = self.about["shapes"].get(variable)
            value = weight(variable, shape) if kind == "weight" else np.int64(0) if kind == "updates" else np.zeros(shape, np.float32)
            self.state.append(self.put(value))

    def __call__(self, batch: list, step, rate):
        """One update; the loss, on the device."""
        found = self.executable.execute_sharded([*batch, step, rate, *self.state])
        loss, _, _, *self.state = (one[0] for one in found.disassemble_into_single_device_arrays())
        return loss


def measure(folder: Path, name: str, seconds: float) -> dict:
    """Losses of the first updates, then rounds of ``seconds`` over the same rows again and again."""
    update, given = Update(folder, name), np.load(folder / f"{name}.npz")
    batches = [[update.put(field) for field in fields] for fields in given["fields"].swapaxes(0, 1)]
    steps, rates = [update.put(np.int64(i)) for i in range(len(batches))], [update.put(rate) for rate in given["rates"]]
    losses = [float(np.asarray(update(*one))) for one in zip(batches, steps, rates, strict=True)]
    pieces = float((given["fields"][2] > 0).sum() / len(batches))  # segments: 0 is padding
    found = []
    for _ in range(3):
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for one in zip(batches, steps, rates, strict=True):
                loss = update(*one)
            float(np.asarray(loss))
            done += len(batches)
        found.append((time.perf_counter() - began) / done)
    matrices = sum(math.prod(shape) for name, shape in update.about["shapes"].items() if len(shape) > 1 and "embedding" not in name.lower())
    flops = 6 * matrices * update.about["rows"] * update.about["row_length"]
    median = sorted(found)[1]
    return {
        "name": name,
        "compile_seconds": update.compile_seconds,
        "losses": losses,
        "expected": given["losses"].tolist(),
        "milliseconds": [1e3 * one for one in found],
        "pieces_per_second": pieces / median,
        "tflops": flops / median / 1e12,
        "share_of_peak": flops / median / PEAK,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a round; there are three")
    parser.add_argument("--json", type=Path, help="append the results to this file, a line each")
    given = parser.parse_args()
    for path in sorted(given.folder.glob("*.hlo")):
        found = measure(given.folder, path.stem, given.seconds)
        apart = max(abs(a - b) / b for a, b in zip(found["losses"], found["expected"], strict=True))
        print(
            f"{path.stem}: compiled in {found['compile_seconds']:.0f} s; losses {apart:.2%} apart at most from the CPU's; "
            f"{sorted(found['milliseconds'])[1]:.2f} ms an update, {found['pieces_per_second']:,.0f} word pieces/s, "
            f"{found['tflops']:.1f} TFLOP/s, {found['share_of_peak']:.1%} of the peak",
            flush=True,
        )
        if given.json:
            with open(given.json, "a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
