"""The public Python functions and classes."""
