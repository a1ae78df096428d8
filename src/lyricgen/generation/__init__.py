"""Texts from a trained model: asked for, written under constraints, filled in, printed."""
