"""From answers to numbers: what is measured, with its uncertainty, and the sentence that may be said of it."""
