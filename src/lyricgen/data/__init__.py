"""From a text to batches of character ids.

A tour in the order in which the data flows:

1. `options` says which text it is and how it is read, split and cut: the settings of `data=` and
   `sampler=`.
2. `sources` knows the corpora. It finds the file of one and fetches a published one.
3. `reading` unpacks and decodes the file. `faults` replaces its control characters, and finds the
   encoding of a file that does not decode.
4. `corpus` prepares the text as the options say, in Unicode's composed form, and encodes its
   characters by their numbers in the `vocabulary`: ids, in the smallest type that holds them.
5. `cache` does the same with a large text, piece by piece. An `entry` holds its ids on the disk,
   and `checked_mapping` reads them from there block by block.
6. `splits` splits the ids into the training, validation and test splits.
7. `samplers` cut the training split into batches; `evaluation_samplers` cut the other splits, so
   that each character is predicted once and in order. Samplers deal in positions alone.
8. `batch` gathers the ids at these positions: inputs and targets, (B, T). With several processes
   each one gathers its share of the rows.
9. `datamodule` gives the batches to Lightning.

`build` goes through these steps for one run. Nothing here knows a model.
"""
