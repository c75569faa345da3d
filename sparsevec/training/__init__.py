"""Training with a backbone: the parts of a loss, and the loop that puts them together. Needs torch."""
