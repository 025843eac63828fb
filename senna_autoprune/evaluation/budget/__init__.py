"""How far a model may be pruned on these questions, and how sure that is: choose on one half, certify on the other."""
