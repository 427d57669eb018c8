"""A watch that never sleeps: what is new on some branches is measured, gated, reported and told.

Whoever watches, serves and tells imports nothing of the code under test: that runs in children
(:mod:`convbench.watching.children`), and what they say is read as plain data.
"""
