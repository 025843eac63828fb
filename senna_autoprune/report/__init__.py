"""A finished run as documents: the report, the paper's two figures."""
