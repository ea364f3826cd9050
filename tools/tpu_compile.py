"""Compile a serialized HLO module for the cores of a TPU topology by libtpu, without a TPU: one line of JSON with the compiler's counts.

    python tpu_compile.py v3:2x2 8 step.hlo

Run by tpu_check.py in an environment of its own (tpu.lock): the ways in are jax's private ones, so its versions are pinned.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from pathlib import Path

import numpy as np
from jax._src import compiler
from jax._src.interpreters import mlir
from jax._src.lib import _jax
from jax._src.lib.mlir import ir
from jax.experimental import topologies


def compile_module(topology: str, replicas: int, blob: bytes):
    """The executable for ``replicas`` cores, and the number and bytes of the all-reduces that the step asks for."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    assert len(devices) == replicas, f"{topology} has {len(devices)} cores, not {replicas}"
    with mlir.make_ir_context():
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(blob))
        asked = prepare(module.operation)
        assignment = np.array([[device.id] for device in devices])
        options = compiler.get_compile_options(num_replicas=replicas, num_partitions=1, device_assignment=assignment)
        client = devices[0].client
        return client.compile(module, executable_devices=_jax.DeviceList(tuple(devices)), compile_options=options), asked


def prepare(operation) -> dict:
    """Erase TensorFlow's ``mhlo.copy`` operations, which StableHLO has not, and count the all-reduces."""
    copies, sizes = [], []

    def walk(op):
        if op.name == "mhlo.copy":
            copies.append(op)
        elif op.name == "stablehlo.all_reduce":
            kinds = [ir.RankedTensorType(result.type) for result in op.results]
            sizes.append(sum(math.prod(kind.shape) * kind.element_type.width // 8 for kind in kinds))
        return ir.WalkResult.ADVANCE

    operation.walk(walk)
    for copy in copies:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()
    return {"all_reduces": len(sizes), "all_reduce_bytes": sum(sizes)}


def counts(executable) -> dict:
    """Memory, FLOPs, bytes and all-reduces of one core and step."""
    memory = executable.get_compiled_memory_stats()
    costs = executable.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    try:
        joined = len(re.findall(r" all-reduce(?:-start)?\(", executable.hlo_modules()[0].to_string()))
    except RuntimeError:  # jaxlib cannot read back every module that libtpu makes (v6e)
        joined = None
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "flops": costs["flops"],
        "bytes": costs["bytes accessed"],
        "joined_all_reduces": joined,
    }


def main(topology: str, replicas: str, path: str) -> None:
    began = time.perf_counter()
    try:
        executable, asked = compile_module(topology, int(replicas), Path(path).read_bytes())
    except Exception as error:  # what XLA raises has no type of its own
        message = " ".join(str(error).split())
        if "hbm" not in message.lower():
            raise
        used = re.search(r"(Used [\d.]+\w+ of [\d.]+\w+ hbm)[^.]*\.?\s*(Exceeded hbm capacity by [\d.]+\w+)", message)
        needed = re.search(r"total memory required for .*? exceeds available HBM \([^)]*\)", message)
        print(json.dumps({"error": "; ".join(used.groups()) if used else needed[0] if needed else message[:300]}))
        return
    print(json.dumps({"compile_seconds": time.perf_counter() - began, **asked, **counts(executable)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
