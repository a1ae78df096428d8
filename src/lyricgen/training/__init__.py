"""One run: options, model, callbacks, and results at its end."""
