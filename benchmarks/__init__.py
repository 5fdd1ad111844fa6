"""Measurements against what others offer: side by side, warm, with correctness checked in the same run.

``pip install -e '.[bench]'`` and ``python -m benchmarks`` run them all; each also runs alone, as its first lines say.
"""
