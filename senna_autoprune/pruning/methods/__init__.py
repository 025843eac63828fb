"""Pruning methods, one small dataclass file each; registry.py names them."""
