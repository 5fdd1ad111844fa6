"""Growth of this process during a call. Plain Python, for a peer's old environment imports it as well."""

import ctypes
import gc
import sys
from pathlib import Path

MIB = 2**20


def resident(key):
    """Bytes by a key of ``/proc/self/status``: ``VmRSS`` now, ``VmHWM`` at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def growth(call, *, apart=False):
    """Highest memory during a warm call, less what was held before and less the array it may return, in bytes.

    With ``apart``, arrays from 64 KiB on get pages of their own from now on, in this call and later ones (which
    that slows down): they cannot take the place of what earlier calls freed and the C library kept.
    On a GPU it is the framework's own account of the device, in JAX the highest since the process began.
    """
    gc.collect()
    if apart and hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 16)
    before, highest = _start()
    result = call()
    if hasattr(result, "block_until_ready"):
        result.block_until_ready()
    return highest() - before - getattr(result, "nbytes", 0)


_MMAP_THRESHOLD = -3  # as in malloc.h


def _start():
    """Bytes held now, and a function that gives the most held since."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated
    if jax is not None and jax.default_backend() != "cpu":
        account = jax.devices()[0].memory_stats
        return account()["bytes_in_use"], lambda: account()["peak_bytes_in_use"]
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS"), lambda: resident("VmHWM")
