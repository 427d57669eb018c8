"""convbench's tab in asv's pages, and those pages without a network."""
