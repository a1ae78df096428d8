"""The public Python functions and classes, which the package lyricgen loads on demand."""
