"""The demonstration: a product of Jacobians with known figures, and the kernel of a network trained on real images.

Written against the public names alone, as a user would write it.
"""
