"""Arguments, one-line errors and Hydra's composition, shared by the commands."""
