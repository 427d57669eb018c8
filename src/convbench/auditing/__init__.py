"""Does what was seen support what is claimed? The judge of timings."""
