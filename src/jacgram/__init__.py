"""Jacobian Gram matrices J(x1) J(x2)ᵀ, exactly and without holding a Jacobian, in JAX and in PyTorch."""

from jacgram.api import gram, ntk, plan
from jacgram.errors import JacgramError
from jacgram.operator import GramOperator, Jacobian, vstack
from jacgram.plan.device import Device
from jacgram.plan.plan import Plan
from jacgram.plan.strategies import Auto, Materialize, MatrixFree, Structured

__all__ = [
    "Auto",
    "Device",
    "GramOperator",
    "JacgramError",
    "Jacobian",
    "Materialize",
    "MatrixFree",
    "Plan",
    "Structured",
    "gram",
    "ntk",
    "plan",
    "vstack",
]

__version__ = "0.1.0"
