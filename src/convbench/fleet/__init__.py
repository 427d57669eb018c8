"""Commits measured over machines: what a unit of that is, where it runs, and how it is stored.

Dask moves the units: it is the queue, the scheduler, and what notices that a worker has died. What
is here says what a unit is (:mod:`.units`), what a worker can do (:mod:`.slots`), what it does for
a unit (:mod:`.worker`, :mod:`.guard`, :mod:`.measured`), and what becomes of what it sends
(:mod:`.received`, :mod:`.client`).
"""
