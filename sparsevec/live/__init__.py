"""On a cluster that serves already: retrofit (fill a field beside what is there), catch up, undo, check."""
