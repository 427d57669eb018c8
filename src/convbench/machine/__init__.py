"""The machine, its card, its processes, git and files."""
