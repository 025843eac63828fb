"""senna-mini, the embedded model: configuration, first weights, training."""
