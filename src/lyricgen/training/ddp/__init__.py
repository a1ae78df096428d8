"""Several processes that train one run."""

PEER_LOST = 3  # exit status of a process that has lost another process
