"""One file for each framework, with an extra of its own. They use public names alone."""
