"""From checkpoint to payload: tensors, what quantizers make of them, and how that is coded."""
