"""One frontend per framework: how a function at a point is linearised into uses, and how products with J are run."""
