"""The paper, end to end: trained, branched, measured beside every baseline."""
