"""The recurrent cells, by the names that `cell=` has for them."""

from lyricgen.models.cells.cell import Cell
from lyricgen.models.cells.gru import Gru, GruScratch
from lyricgen.models.cells.lstm import Lstm, LstmScratch
from lyricgen.models.cells.rnn import Rnn, RnnScratch

CELLS: dict[str, type[Cell]] = {
    "rnn": Rnn,
    "gru": Gru,
    "lstm": Lstm,
    "rnn_scratch": RnnScratch,
    "gru_scratch": GruScratch,
    "lstm_scratch": LstmScratch,
}
