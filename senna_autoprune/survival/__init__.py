"""What was thrown away: the share of the tokens that show decisive objects which survives pruning, against chance."""
