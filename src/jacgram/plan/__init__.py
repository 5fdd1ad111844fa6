"""Shapes in, Plan out: components, tensor networks, prices, tiles and the memory budget. No array is touched."""
