"""The pruning room: tensors and transformers decoders; knows nothing of Senna, cameras or questions."""
