"""Measurements against what others offer: side by side, warm, with correctness checked in the same run."""
