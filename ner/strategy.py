"""`--tpu auto` -> a tf.distribute strategy, and one line that says what was chosen and why.

Never hangs, never falls back in silence: a TPU is looked for (TPU_NAME, device files) before any resolver is asked, an address is probed by
TCP first, and because TensorFlow's TPU initialisation cannot be cancelled from Python a watchdog ends the process when it takes too long.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import socket
import sys
import tempfile
import threading
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

from ner.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf


class Devices(NamedTuple):
    """A strategy, its kind (``tpu``, ``gpu`` or ``cpu``), the line that says why it was taken, and whether this process is the
    one of several workers that writes the run folder (a process alone is); and how many workers there are."""

    strategy: tf.distribute.Strategy
    kind: str
    reason: str
    chief: bool = True

    workers: int = 1

    def of_all_workers(self, value: int) -> set[int]:
        """The numbers that all workers were given; they wait for each other here."""
        import tensorflow as tf

        if self.workers == 1:
            return {value}
        here = self.strategy.experimental_distribute_values_from_function(lambda context: tf.constant([value]))
        return set(self.strategy.gather(here, axis=0).numpy().tolist())


def import_tensorflow() -> None:
    """Import TensorFlow without its start-up notes; what it writes to stderr is shown only if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silent_stderr():
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def silent_stderr():
    """Keep what C++ libraries write to file descriptor 2; replay it if the block raises."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(original, kept.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


def choose(
    tpu: str = "auto",
    *,
    timeout: float = 120.0,
    look_timeout: float = 10.0,
    gpus: int | None = None,
    cpu_replicas: int | None = None,
    workers: bool = True,
) -> Devices:
    """The strategy for this machine, and with ``workers`` for the others that TF_CONFIG names.

    Call it before anything else touches TensorFlow's devices.

    Raises InputError for a TPU that was named and cannot be reached, and for more GPUs than there are.
    """
    import tensorflow as tf

    devices = _choose(tpu, timeout, look_timeout, gpus, cpu_replicas, workers)
    with silent_stderr():
        tf.constant(0)  # TensorFlow's notes on the machine come with the first operation
    return devices


def _choose(tpu: str, timeout: float, look_timeout: float, gpus: int | None, cpu_replicas: int | None, workers: bool) -> Devices:
    import tensorflow as tf

    if cpu_replicas:
        tf.config.set_visible_devices([], "GPU")
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpu_replicas)
        devices = [f"/cpu:{i}" for i in range(cpu_replicas)]
        strategy = mirrored_cpus(devices) if cpu_replicas > 1 else tf.distribute.get_strategy()
        return Devices(strategy, "cpu", f"{cpu_replicas} CPU replica{'s' * (cpu_replicas > 1)}, as --cpu-replicas asked")
    name = _tpu_name(tpu)
    if name is not None:
        return Devices(
            _tpu_strategy(name, timeout, look_timeout), "tpu", f"TPU {name or 'local'} ({'found' if tpu == 'auto' else 'named'})"
        )
    why = "--tpu none" if tpu == "none" else "no TPU_NAME, no TPU device files"
    if workers and "TF_CONFIG" in os.environ:
        try:
            json.loads(os.environ["TF_CONFIG"])["task"]
        except (ValueError, KeyError, TypeError):
            raise InputError("TF_CONFIG is not JSON with a cluster and a task", hint="hint the variable, or unset it") from None
        with silent_stderr():
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        resolver = strategy.cluster_resolver
        cluster = resolver.cluster_spec().as_dict()
        count = len(cluster.get("chief", [])) + len(cluster.get("worker", []))
        chief = resolver.task_type == "chief" or ("chief" not in cluster and resolver.task_id == 0)
        return Devices(strategy, _kind(), f"{resolver.task_type} {resolver.task_id} of {count} workers, as TF_CONFIG says", chief, count)
    found = tf.config.list_physical_devices("GPU")
    if gpus and gpus > len(found):
        raise InputError(f"--gpus {gpus}, but this machine has {len(found)}", hint="ask for fewer, or leave --gpus out")
    if found:
        tf.config.set_visible_devices(found[:gpus], "GPU")
        count = len(found[:gpus])
        strategy = tf.distribute.MirroredStrategy() if count > 1 else tf.distribute.OneDeviceStrategy("/gpu:0")
        return Devices(strategy, "gpu", f"{count} GPU{'s' if count > 1 else ''} ({why})")
    return Devices(tf.distribute.get_strategy(), "cpu", f"the CPU ({why}, no GPU)")


def mirrored_cpus(devices: list[str]):
    """One replica on each logical CPU; sums go through one device, in a fixed order."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


def _kind() -> str:
    import tensorflow as tf

    return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"


def _tpu_name(tpu: str) -> str | None:
    """The TPU to initialise, or None: what --tpu names, else TPU_NAME, else `local` where TPU device files exist."""
    if tpu == "none":
        return None
    if tpu != "auto":
        return tpu
    if os.environ.get("TPU_NAME"):
        return os.environ["TPU_NAME"]
    return "local" if glob.glob("/dev/accel[0-9]*") or _tpu_in_vfio() else None


def _tpu_in_vfio() -> bool:
    """v5 and later TPU VMs show their chips as PCI devices of Google (vendor 0x1ae0) behind vfio."""
    for vendor in glob.glob("/sys/bus/pci/devices/*/vendor"):
        with contextlib.suppress(OSError), open(vendor) as file:
            if file.read().strip() == "0x1ae0" and glob.glob("/dev/vfio/[0-9]*"):
                return True
    return False


def _tpu_strategy(name: str, timeout: float, look_timeout: float):
    import tensorflow as tf

    if name.startswith("grpc://"):
        _probe(name, look_timeout)
    with _deadline(timeout, f"TPU {name!r} did not initialise within {timeout:g} s"):
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
            return tf.distribute.TPUStrategy(resolver)
        except Exception as error:  # google.auth, requests, tf.errors and ValueError alike mean: not reachable
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise InputError(f"TPU {name!r} cannot be used: {reason}", hint="check its name and state, or use --tpu none") from None


def _probe(address: str, timeout: float) -> None:
    """Ask a grpc address by TCP first: a closed port answers at once, where TensorFlow would retry for minutes."""
    parts = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 8470), timeout=timeout).close()
    except (OSError, ValueError) as error:
        raise InputError(f"no TPU answers at {address} ({error})", hint="check the address, or use --tpu none") from None


@contextlib.contextmanager
def _deadline(seconds: float, message: str):
    """End the process with status 2 and one line when the block takes longer: the call inside cannot be interrupted."""

    def give_up():
        sys.stderr.write(f"error: {message}; check the TPU's state, raise --tpu-timeout, or use --tpu none\n")
        sys.stderr.flush()
        os._exit(2)

    watchdog = threading.Timer(seconds, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def compute_dtype(wanted: str, kind: str):
    """``auto`` -> bfloat16 on TPUs, on GPUs from compute capability 8.0, on CPUs with bfloat16 products; else float32."""
    import tensorflow as tf

    if wanted != "auto":
        return tf.as_dtype(wanted)
    if kind == "gpu":
        capable = all(
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) >= (8, 0)
            for gpu in tf.config.list_physical_devices("GPU")
        )
        return tf.bfloat16 if capable else tf.float32
    return tf.bfloat16 if kind == "tpu" or _cpu_has_bfloat16() else tf.float32


def _cpu_has_bfloat16() -> bool:
    """AVX512-BF16 or AMX, by the flags Linux shows; elsewhere assumed absent."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
