"""From a text to batches of character ids.

A tour in the order in which the data flows:

1. `options` lists the corpora, and says how a text is read, split and cut: the settings of `data=`
   and `sampler=`.
2. `reading` unpacks and decodes the file. `faults` replaces its control characters, and finds the
   encoding of a file that does not decode.
3. `preparation` makes the text ready as the options say, in Unicode's composed form.
4. `vocabulary` numbers its characters. `corpus` holds them as ids, in the smallest type that has
   room for all numbers, in memory or in a file that is checked block by block.
5. `cache` fetches a published text, and encodes a large text piece by piece into a checked file.
6. `splits` splits the ids into the training, validation and test splits.
7. `samplers` choose the positions of each batch. The batches of a held-out split predict each
   character once, except the first of a running text. A sampler knows no characters.
8. `batch` cuts the ids of a batch at these positions: inputs and targets, (B, T). With
   several processes each process cuts its share of the rows.
9. `datamodule` gives the batches to Lightning.

`build` goes through steps 1 to 6 for one run. No module here imports a model.
"""
