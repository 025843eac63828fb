"""Every method at every budget: cells, their driver, their table."""
