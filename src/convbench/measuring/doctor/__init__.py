"""Is this machine fit to measure? What disturbs a benchmark, with figures and what to do."""
