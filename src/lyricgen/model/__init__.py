"""Recurrent and n-gram language models over characters."""
