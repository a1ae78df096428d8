"""Several processes that train one run."""

PEER_LOST = 3  # exit status of one that was ended by the loss of another
