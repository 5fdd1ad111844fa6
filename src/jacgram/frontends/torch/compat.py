"""The only place for names that PyTorch does not promise to keep. Each has a test that fails by name if it moves."""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
from torch.autograd import forward_ad


@lru_cache(maxsize=1)
def load_forward_mode() -> None:
    """Load forward mode's decompositions, which PyTorch compiles on first use with a function that it deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.*", category=DeprecationWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))
