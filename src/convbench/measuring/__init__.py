"""How long a call takes, in fresh processes, with evidence."""
