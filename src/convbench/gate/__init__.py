"""Two sides measured at the same time: a verdict on a commit that knows how sure it is.

``build`` finds or makes the environment and the source of either side, ``side`` is what runs in
them, ``pairs`` measures pairs of processes and stops when enough is known, and ``verdicts`` says
what it means.
"""
