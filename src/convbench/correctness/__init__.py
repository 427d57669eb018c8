"""Is an output right? The oracle, its bounds, and what holds outputs against them."""
