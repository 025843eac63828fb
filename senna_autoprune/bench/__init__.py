"""Times of prefill, decode and vision on random weights of a real shape, pruned and unpruned in turn."""
