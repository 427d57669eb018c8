"""What is measured: asv's suites over the workloads. Start with ``convbench_common.py``.

They are imported through a front, the folder that ``asv.conf.json`` calls ``benchmark_dir``, and
under its name: its ``__init__.py`` puts this folder into its ``__path__``.
"""
