"""Click models: networks that read a user's history and say how likely a click is, and their distillation."""
