"""Kernels on disk: one Zarr array, and beside it a manifest of the tiles that are durably done.

Reading order: `grid` (which tiles there are), `header` (what the array's attributes say), `files` (small files in any
Zarr store, durably written), `manifest` (which tiles are done), `kernel_store` (the whole).
"""
