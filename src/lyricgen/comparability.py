"""Which options decide whether runs may be compared, and by what."""

# Options of data= that decide which characters are held out.
DECIDING = (
    *("kind", "path", "unit", "max_chars", "lowercase", "distinct", "newline", "encoding"),
    *("val_fraction", "test_fraction", "max_held_out", "split_seed"),
)
# Groups and options that n-grams do not know.
NETWORKS = {"layers", "hidden_size", "cell", "depth", "loss", "optimizer", "scheduler", "trainer"}
