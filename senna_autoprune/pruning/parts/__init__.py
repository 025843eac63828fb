"""What methods are made of: allocations, scores, selections and revivals as pure functions. Knows no method and no model."""
