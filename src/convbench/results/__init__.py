"""What asv and the evidence hold of a measurement: the narrow waist."""
