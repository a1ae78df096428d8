"""The way from a text to batches of character ids.

The modules, in the order in which the data flows:

1. `options` lists the corpora and defines the settings of `data=` and `sampler=`.
2. `cached_files` fetches published texts, and keeps standard input. `text_files` finds the files of
   folders and archives. `reading` unpacks and decodes a file, whose kind `file_kinds` knows;
   `faults` handles control characters, and suggests encodings for a file that does not decode.
   `formats` recognises lyrics with timestamps, `fields` reads tables and JSON, and `sources` puts
   the parts of a text together: files, rows or records.
3. `preparation` prepares the text: line ends, case, length and Unicode's composed form. `units`
   guesses whether it is running text, lines or documents, and divides it.
4. `vocabulary` numbers the characters. `corpus` holds the text as ids, in memory or in a file with
   checksums.
5. `cache` encodes large texts into files.
6. `splits` cuts the ids into a training, a validation and a test split.
7. `samplers` choose the positions of each batch. They know no characters.
8. `batch` gathers the ids at these positions into inputs and targets, (B, T). `recall` counts what
   a reader with a memory recalls at each position.
9. `datamodule` gives the batches to Lightning.

`build` carries out steps 1 to 6 for a run, and lists the samplers. `training.build` builds the
sampler and the data module. No module here imports a model.
"""
