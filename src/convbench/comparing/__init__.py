"""Two sides of results, and a verdict on each cell."""
