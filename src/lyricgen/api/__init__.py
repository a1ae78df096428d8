"""The public Python functions and classes, which the package lyricgen loads on demand."""

import warnings

# a library loads tqdm, which warns in a notebook without ipywidgets; nothing here needs them
warnings.filterwarnings("ignore", message="IProgress not found")
