"""The PyTorch frontend: a function at a point becomes recorded uses of its parameters, and products with its Jacobian.

Reading order: `trees` (what the user passed, as flat lists), `values` (its tensors, checked), `program` (f as a
function of flat leaves), `calling` (f is called so that nothing of the user's changes), `products` (J and Jᵀ applied),
`side` (what everything above works with), `identity` (rows by plain backward passes).
"""

from jacgram.core.frontend import Frontend
from jacgram.frontends.torch.frontend import TorchFrontend


def frontend() -> Frontend:
    """The PyTorch frontend."""
    return TorchFrontend()


__all__ = ["TorchFrontend", "frontend"]
