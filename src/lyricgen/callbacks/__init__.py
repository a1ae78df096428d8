"""What a training run logs, saves, prints and compares itself with."""
