"""What the commands share: arguments, one-line errors, and Hydra's composition."""
