"""The command ``convbench``, one file a command."""
