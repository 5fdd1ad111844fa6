"""Jacobians and their Gram matrices as lazy operators: numbers appear when asked for."""

from jacgram.operator.gram import GramOperator
from jacgram.operator.jacobian import Jacobian, TransposedJacobian, vstack

__all__ = ["GramOperator", "Jacobian", "TransposedJacobian", "vstack"]
