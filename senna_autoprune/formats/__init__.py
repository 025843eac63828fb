"""Question files of other people, and what is done with question files: convert, filter, sample, merge."""
