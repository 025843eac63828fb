"""Measures -> tables of text cells, which terminal, Markdown and HTML draw their own way."""
