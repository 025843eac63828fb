"""Pruning inside an unmodified transformers decoder: hooks, the gather of a cut, rows of attention, decode steps."""
