"""`--tpu auto` -> a tf.distribute strategy, and one line that says what was chosen and why.

Never hangs, never falls back in silence: a TPU is looked for (TPU_NAME, device files) before any resolver is asked, an address is probed by
TCP first, and because TensorFlow's TPU initialisation cannot be cancelled from Python a watchdog ends the process when it takes too long.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import json
import os
import socket
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ner.errors import InputError, RunStopped, WorkerLost

if TYPE_CHECKING:
    import tensorflow as tf

# Keras imports these where they are installed, for functions that are not used here; that is a third of the time of its import.
SLOW = ("IPython", "matplotlib", "pandas", "scipy", "sklearn")


class Devices(NamedTuple):
    """The devices that a process trains on.

    Attributes:
        strategy: the tf.distribute strategy.
        kind: ``tpu``, ``gpu`` or ``cpu``.
        reason: what was chosen and why, for people.
        chief: whether this process, of several workers, is the one that writes the run folder; a process alone is.
        workers: how many workers there are.
    """

    strategy: tf.distribute.Strategy
    kind: str
    reason: str
    chief: bool = True
    workers: int = 1

    def of_all_workers(self, value: int) -> set[int]:
        """The numbers (int64) that all workers gave; they wait for each other here."""
        import tensorflow as tf

        if self.workers == 1:
            return {value}
        here = self.strategy.experimental_distribute_values_from_function(lambda context: tf.constant([value], tf.int64))
        return set(self.strategy.gather(here, axis=0).numpy().tolist())

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Where the block raises an error on one worker, it ends on all: there with that error, elsewhere with RunStopped."""
        try:
            yield
        except Exception:
            self.of_all_workers(1)
            raise
        if 1 in self.of_all_workers(0):
            raise RunStopped("another worker stopped before the first update; its own message says why")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Where another worker dies in the block, this one ends with WorkerLost, not with TensorFlow's traceback."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            own = (tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.NotFoundError)
            if self.workers == 1 or isinstance(error, own):
                raise
            noise = ("Graph execution error", "Detected at node", "<stack traces", 'File "')
            lines = [line for line in map(str.strip, str(error.message).splitlines()) if line and not line.startswith(noise)]
            reason = lines[0] if lines else type(error).__name__
            raise WorkerLost(f"another worker is gone ({reason}); start all of them again with --resume") from None


def import_tensorflow() -> None:
    """Import TensorFlow without its start-up notes; what it writes to stderr is shown only if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silent_stderr(), hidden(SLOW), uncollected():
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def uncollected():
    """No garbage is collected in the block, nor later looked for among what it imports: a fifth of the import's time is that."""
    if "tensorflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.collect()  # what is garbage now would stay for ever
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def hidden(packages: tuple[str, ...]):
    """Imports in the block find that these are not installed, unless they are imported already."""
    new = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(new))  # type: ignore[arg-type]  # None: an import of it raises ImportError
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]


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
    if devices.kind == "cpu" and devices.strategy.num_replicas_in_sync == 1:
        # TensorFlow's passes over a graph cost most of a second of each start, and make no update and no prediction faster here.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    with silent_stderr():
        tf.constant(0)  # TensorFlow's notes on the machine come with the first operation
    return devices


def _choose(tpu: str, timeout: float, look_timeout: float, gpus: int | None, cpu_replicas: int | None, workers: bool) -> Devices:
    import tensorflow as tf

    several = workers and "TF_CONFIG" in os.environ
    if cpu_replicas:
        if several:
            hint = "leave it out (each worker is one replica), or unset TF_CONFIG"
            raise InputError("--cpu-replicas splits one process, and TF_CONFIG names several", hint=hint)
        return _logical_cpus(cpu_replicas)
    name = _tpu_name(tpu)
    if name is not None:
        found = "found" if tpu == "auto" else "named"
        return Devices(_tpu_strategy(name, timeout, look_timeout), "tpu", f"TPU {name or 'local'} ({found})")
    why = "--tpu none" if tpu == "none" else "no TPU_NAME, no TPU device files"
    found_gpus = tf.config.list_physical_devices("GPU")
    if gpus and gpus > len(found_gpus):
        raise InputError(f"--gpus {gpus}, but this machine has {len(found_gpus)}", hint="ask for fewer, or leave --gpus out")
    if found_gpus:
        tf.config.set_visible_devices(found_gpus[:gpus], "GPU")
    if several:
        return _workers("gpu" if found_gpus else "cpu")
    if found_gpus:
        count = len(found_gpus[:gpus])
        strategy = tf.distribute.MirroredStrategy() if count > 1 else tf.distribute.OneDeviceStrategy("/gpu:0")
        return Devices(strategy, "gpu", f"{count} GPU{'s' if count > 1 else ''} ({why})")
    return Devices(tf.distribute.get_strategy(), "cpu", f"the CPU ({why}, {_why_no_gpu()})")


def _logical_cpus(count: int) -> Devices:
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    strategy = mirrored_cpus([f"/cpu:{i}" for i in range(count)]) if count > 1 else tf.distribute.get_strategy()
    return Devices(strategy, "cpu", f"{count} CPU replica{'s' if count > 1 else ''}, as --cpu-replicas asked")


def _workers(kind: str) -> Devices:
    import tensorflow as tf

    others = _check_tf_config(os.environ["TF_CONFIG"]) - 1
    print(f"workers: waiting for the {others} other {'worker' if others == 1 else 'workers'} that TF_CONFIG names", flush=True)
    with silent_stderr():
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    resolver = strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict()
    count = len(cluster.get("chief", [])) + len(cluster.get("worker", []))
    chief = resolver.task_type == "chief" or ("chief" not in cluster and resolver.task_id == 0)
    return Devices(strategy, kind, f"{resolver.task_type} {resolver.task_id} of {count} workers, as TF_CONFIG says", chief, count)


def _check_tf_config(text: str) -> int:
    """How many workers TF_CONFIG names. Raises InputError where it does not say which of them this process is."""
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        workers = {kind: hosts for kind, hosts in cluster.items() if kind in ("chief", "worker") and isinstance(hosts, list)}
        if not 0 <= int(task["index"]) < len(workers[task["type"]]):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        what = "TF_CONFIG is not JSON with a cluster of lists of workers, and a task that is one of them"
        raise InputError(what, hint="correct TF_CONFIG or unset it") from None
    return sum(map(len, workers.values()))


def _why_no_gpu() -> str:
    """Why TensorFlow has no GPU: there is none, or there is one that it cannot use."""
    import tensorflow as tf

    if not glob.glob("/dev/nvidia[0-9]*"):
        return "no GPU"
    if not tf.test.is_built_with_cuda():
        return "a GPU that this TensorFlow is not built for: pip install -e .[gpu]"
    return "a GPU that TensorFlow cannot use: TF_CPP_MIN_LOG_LEVEL=0 shows why"


def mirrored_cpus(devices: list[str]):
    """One replica on each logical CPU; sums go through one device, in a fixed order."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


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
