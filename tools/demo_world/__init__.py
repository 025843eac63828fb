"""The synthetic world of the embedded default: simulation, renderer, nuScenes tables."""
