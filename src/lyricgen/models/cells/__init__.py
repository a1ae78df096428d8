"""The recurrent cells, by the names in `cell=`."""

from lyricgen.models.cells.cell import Cell
from lyricgen.models.cells.gru import ScratchGru, TorchGru
from lyricgen.models.cells.lstm import ScratchLstm, TorchLstm
from lyricgen.models.cells.lstm_coupled import CoupledLstm
from lyricgen.models.cells.rnn import ScratchRnn, TorchRnn

CELLS: dict[str, type[Cell]] = {
    "rnn": TorchRnn,
    "gru": TorchGru,
    "lstm": TorchLstm,
    "lstm_coupled": CoupledLstm,
    "rnn_scratch": ScratchRnn,
    "gru_scratch": ScratchGru,
    "lstm_scratch": ScratchLstm,
}
