"""Continuing texts with a language model: rules on logits, drawing, many texts at once."""
