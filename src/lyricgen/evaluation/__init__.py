"""Evaluation of trained models: scores with intervals, curves, memorisation, plots and pages."""
