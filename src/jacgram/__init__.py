"""Jacobian Gram matrices J(x1) J(x2)ᵀ, exactly and without holding a Jacobian, in JAX and in PyTorch."""

from jacgram.api import gram, ntk, plan, write_ntk
from jacgram.errors import JacgramError
from jacgram.execute import Dask, JsonLog, ProgressBar, Serial
from jacgram.operator import GramOperator, Jacobian, StoredKernel, open_kernel, vstack
from jacgram.plan.device import Device
from jacgram.plan.plan import Plan
from jacgram.plan.strategies import Auto, Materialize, MatrixFree, Structured
from jacgram.report.summary import Summary

__all__ = [
    "Auto",
    "Dask",
    "Device",
    "GramOperator",
    "JacgramError",
    "Jacobian",
    "JsonLog",
    "Materialize",
    "MatrixFree",
    "Plan",
    "ProgressBar",
    "Serial",
    "StoredKernel",
    "Structured",
    "Summary",
    "gram",
    "ntk",
    "open_kernel",
    "plan",
    "vstack",
    "write_ntk",
]

__version__ = "0.1.0"
