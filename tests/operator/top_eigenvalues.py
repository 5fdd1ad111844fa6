"""Writes the top eigenvalues of a stored kernel, and the peak memory of the process that found them.

The process may not have more than 300 MiB of its own, touched or not.
"""

import os
import resource
import sys

# Each thread of each copy of the library maps 32 MiB that products this small never touch, and the limit counts.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from scipy.sparse.linalg import eigsh

import jacgram
from jacgram.execute.memory import peak_bytes

resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20))
operator = jacgram.open_kernel(sys.argv[1]).operator()
top = int(sys.argv[2]) if len(sys.argv) > 2 else 3
values = eigsh(operator, k=top, return_eigenvectors=False)
sys.stdout.write(" ".join(map(str, [*values, peak_bytes()])))
