"""Jacobians and their Gram matrices as lazy operators: numbers appear when asked for; and kernels read from a store."""

from jacgram.operator.gram import GramOperator
from jacgram.operator.jacobian import Jacobian, TransposedJacobian, vstack
from jacgram.operator.stored import StoredKernel, open_kernel

__all__ = ["GramOperator", "Jacobian", "StoredKernel", "TransposedJacobian", "open_kernel", "vstack"]
