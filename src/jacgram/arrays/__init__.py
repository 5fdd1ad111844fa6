"""The few array primitives that contraction needs, one adapter per framework, loaded when first used."""

from jacgram.arrays.base import Arrays, Windows
from jacgram.arrays.select import adapter

__all__ = ["Arrays", "Windows", "adapter"]
