"""The LightningModule of a model that fills gaps."""

from lyricgen.training.recurrent_module import RecurrentModule


class FillModule(RecurrentModule):
    """Trains a model to predict each character of a window from all others; see the base class.

    What it reaches is called pseudo-perplexity everywhere, since it has seen both sides of each
    character and compares with no model that reads from left to right.
    """

    figure_prefix = "pseudo_"
