"""Runs plans on uses: stacked operands, pairwise contractions, rows of unlike uses, tiles."""
