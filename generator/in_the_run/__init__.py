"""Packing from within the training run: model and file in one go, by all ranks together."""
