"""One file a guest, with an extra of its own; they use public names only. The command line and the demo may come in."""
