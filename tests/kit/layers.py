"""Layers by shapes alone: a component and what is wanted of it."""

from jacgram.core.patterns import Pattern
from jacgram.core.uses import Conv, Einsum, Gather, Use
from jacgram.core.views import View
from jacgram.plan.components import components
from jacgram.plan.wanted import wanted

FULL = "n i, m j -> n m i j"


class Shaped:
    """An array of which the shape is all that is asked."""

    def __init__(self, *shape):
        self.shape = shape
        self.dtype = "float32"


def layer(n=16, t=32, i=128, k=512, s=10, pattern=FULL):
    """A dense layer at t positions."""
    kind = Einsum(("t", "i"), ("t", "k"), ("i", "k"))
    return _made(Use(0, View.of((i, k)), kind, Shaped(n, t, i), Shaped(n, s, t, k)), n, s, pattern)


def paired_layer():
    """Examples of side 1 meet those of side 2 one by one."""
    return layer(pattern="n i, n j -> n i j")


def bias(n=16, t=32, k=512, s=10):
    """A use without activation."""
    return _made(Use(0, View.of((k,)), Einsum(None, ("t", "k"), ("k",)), None, Shaped(n, s, t, k)), n, s, FULL)


def table(n=16, t=32, rows=100, k=64, s=10):
    """An embedding."""
    return _made(Use(0, View.of((rows, k)), Gather(1), Shaped(n, t), Shaped(n, s, t, k)), n, s, FULL)


def conv_layer(*, window, c_in, c_out, n=4, s=10, space=(16, 16)):
    """A convolution of same size."""
    ones = (1,) * len(window)
    kind = Conv(window, ones, tuple((w // 2, w // 2) for w in window), ones, ones, 1)
    use = Use(0, View.of((*window, c_in, c_out)), kind, Shaped(n, *space, c_in), Shaped(n, s, *space, c_out))
    return _made(use, n, s, FULL)


def _made(use, n, s, pattern):
    (component,) = components([use], [use])
    return component, wanted(Pattern.parse(pattern).fit((n, s), (n, s), examples=True), (n, s), (n, s), examples=True)
