"""Teachers: vision-language models that answer the questions geometry cannot (light, description, explanation)."""
