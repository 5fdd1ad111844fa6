"""Writes the top eigenvalues of a stored kernel, and the peak memory of the process that found them."""

import sys

from scipy.sparse.linalg import eigsh

import jacgram
from jacgram.execute.memory import peak_bytes

operator = jacgram.open_kernel(sys.argv[1]).operator()
top = int(sys.argv[2]) if len(sys.argv) > 2 else 3
values = eigsh(operator, k=top, return_eigenvectors=False)
sys.stdout.write(" ".join(map(str, [*values, peak_bytes()])))
