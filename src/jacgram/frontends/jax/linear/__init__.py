"""From the linear program of one example to its uses.

Reading order: `terms` (what is known of a leaf's share in a value), `rules` (how shares pass through equations), `tape`
(the program to run, known part and linear part), `walk` (one pass over the jaxpr that makes a tape), `loops` and
`looping`, `lifting` and `branches` (the same inside ``scan`` and ``cond``), `finish` (terms and cotangents to records),
`structured` (all of it).
"""
