"""A backend for each library, small and complete: what ``convbench init`` writes to begin with.

They are modules like any other, so that the conformance suite tests them where their library is;
:mod:`convbench.cli.init` takes their text.
"""
