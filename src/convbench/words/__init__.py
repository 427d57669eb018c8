"""What became of a cell, and numbers and text as people read them: the ground floor."""
