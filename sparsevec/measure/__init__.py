"""One ruler: cost, recall, quality by labels. Stands on `contract`; everything that reports a figure comes in."""
