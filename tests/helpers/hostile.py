"""Hostile files: none is a model; some try to run code or to take much memory.

Each builder writes a file to a path; code in the file would create `marker`.
"""

import copy
import io
import json
import os
import pickle
import random
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import safetensors.torch
import torch

from lyricgen.models.card import card
from lyricgen.models.checkpoint import MAX_BYTES, MAX_OPERATIONS
from tests.helpers import ensembles, hybrid_models, memory_models
from tests.helpers.checkpoints import Touch, content_of, model_of

Builder = Callable[[Path, Path], None]
# name of a file: its builder, and a part of the refusal
HOSTILE: dict[str, tuple[Builder, str]] = {}


def hostile(message: str) -> Callable[[Builder], Builder]:
    def keep(builder: Builder) -> Builder:
        HOSTILE[builder.__name__] = builder, message
        return builder

    return keep


def checkpoint(message: str, suffix: str = "") -> Callable[[Callable[[Any, Path], Any]], None]:
    """Add a valid checkpoint with one change of its content."""

    def keep(change: Callable[[Any, Path], Any]) -> None:
        def build(path: Path, marker: Path) -> None:
            content = content_of(model_of())
            changed = change(content, marker)
            torch.save(content if changed is None else changed, path)

        HOSTILE[change.__name__ + suffix] = build, message

    return keep


def weight(name: str, made: Callable[[], Any], message: str) -> None:
    """Add a valid checkpoint with one tensor replaced."""

    def build(path: Path, marker: Path) -> None:
        content = content_of(model_of())
        content["state_dict"]["model.output.bias"] = made()
        torch.save(content, path)

    HOSTILE[f"weight_{name}"] = build, message


def archive(path: Path, **members: bytes) -> None:
    """Write an archive as torch does, with members of any content."""
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in members.items():
        writer.write_record(name.replace("__", "/").replace("_pkl", ".pkl"), content, len(content))
    writer.write_end_of_file()


def new_zip(path: Path, **options: Any) -> zipfile.ZipFile:
    """Open a new zip file; `torch_end` then gives it an end like that of torch's files."""
    return zipfile.ZipFile(path, "w", **options)


def torch_end(path: Path) -> None:
    whole = path.read_bytes()
    count, length, offset = struct.unpack("<10xH2L2x", whole[-22:])
    end = len(whole) - 22
    path.write_bytes(
        whole[:end]
        + struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, offset)
        + struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
        + whole[end:]
    )


def nested(depth: int) -> Any:
    inner: Any = []
    for _ in range(depth):
        inner = [inner]
    return inner


def nested_pairs() -> Any:
    """Sixty nested lists that stand for 2**60 values."""
    inner: Any = ["ha"]
    for _ in range(60):
        inner = [inner, inner]
    return inner


# files other than torch's archives


def raw(name: str, content: bytes, message: str) -> None:
    def build(path: Path, marker: Path) -> None:
        path.write_bytes(content)

    HOSTILE[name] = build, message


raw("empty", b"", "it has another format")
raw("text", "想要有直升机\n".encode() * 20, "it has another format")
raw("image", b"\x89PNG\r\n\x1a\n" + bytes(200), "it has another format")
raw("noise", random.Random(0).randbytes(5000), "it has another format")
raw("start_of_a_zip", b"PK\x03\x04", "cut short")
raw("pickle", pickle.dumps({"state_dict": {}, "lyricgen": {}}), "it has another format")
raw("end_alone", b"PK\x05\x06" + bytes(18), "it has another format")


@hostile("it has another format")
def pickled_code(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Touch(marker), protocol=2))


@hostile("it has another format")
def legacy(path: Path, marker: Path) -> None:
    content = {**content_of(model_of()), "more": Touch(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=False)


@hostile("cut short, or not of torch")
def zip_of_songs(path: Path, marker: Path) -> None:
    with zipfile.ZipFile(path, "w") as packing:
        packing.writestr("song.txt", "la la la" * 50)


@hostile("cut short, or not of torch")
def arrays_of_numpy(path: Path, marker: Path) -> None:
    content = io.BytesIO()
    np.savez(content, weights=np.zeros(100))
    path.write_bytes(content.getvalue())


@hostile("not what torch.save writes")
def torch_script(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02}.", constants_pkl=b"\x80\x02).", code__a=b"def f(): pass")


@hostile("not what torch.save writes")
def archive_without_a_pickle(path: Path, marker: Path) -> None:
    archive(path, song=b"la la la")


@hostile("not a readable checkpoint")
def archive_of_nonsense(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02}]q\x00(K")


@hostile("it has 17179869185 bytes")
def too_large(path: Path, marker: Path) -> None:
    with path.open("wb") as stream:
        stream.write(b"PK\x03\x04")
        stream.truncate(MAX_BYTES + 1)  # a sparse file: takes no room on the disk


# archives whose directories are false


@hostile("not stored as torch stores them")
def packed(path: Path, marker: Path) -> None:
    with new_zip(path, compression=zipfile.ZIP_DEFLATED) as packing:
        packing.writestr("a/data.pkl", b"\x80\x02}.")
        with packing.open("a/data/0", "w") as member:
            for _ in range(400):
                member.write(bytes(2**20))
    torch_end(path)


@hostile("not stored as torch stores them")
def same_member_twice(path: Path, marker: Path) -> None:
    content = b"\x80\x02}."
    with new_zip(path) as packing:
        packing.writestr("a/data.pkl", content)
        packing.filelist.append(packing.filelist[0])
    torch_end(path)


@hostile("its directory has")
def many_members(path: Path, marker: Path) -> None:
    with new_zip(path) as packing:
        packing.writestr("a/" + "x" * 100, b"")
        packing.filelist *= 60_000
    torch_end(path)


@hostile("larger than the file")
def lying_sizes(path: Path, marker: Path) -> None:
    with new_zip(path) as packing:
        packing.writestr("a/data.pkl", b"\x80\x02}.")
        packing.writestr("a/data/0", b"12345678")
        packing.filelist[1].file_size = packing.filelist[1].compress_size = 2**31
    torch_end(path)


@hostile("another byte order")
def other_byte_order(path: Path, marker: Path) -> None:
    other = "big" if sys.byteorder == "little" else "little"
    archive(path, data_pkl=b"\x80\x02}.", byteorder=other.encode())


@hostile("cut short, or not of torch")
def two_directories(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02}.")
    whole = bytearray(path.read_bytes())
    whole[-34:-26] = struct.pack("<Q", 100)  # where some readers look for the directory
    path.write_bytes(whole)


# pickles that take time or memory

# start of the name of a storage of floats in the member data/7
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x007X\x03\x00\x00\x00cpu"


@hostile("more than 1000000 operations")
def pickle_of_dictionaries(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02](" + b"}" * (2 * MAX_OPERATIONS) + b"e.")


@hostile("its pickle has 17000000 bytes")
def pickle_too_long(path: Path, marker: Path) -> None:
    archive(path, data_pkl=bytes(17_000_000))


@hostile("it names __builtin__ bytearray")
def pickle_of_an_array_of_bytes(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x08\x85R.")


@hostile("it names torch FloatTensor")
def pickle_of_a_tensor_without_storage(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x08\x85R.")


@hostile("not of protocol 2")
def pickle_of_another_protocol(path: Path, marker: Path) -> None:
    archive(path, data_pkl=pickle.dumps({"lyricgen": 1}, protocol=4))


@hostile("not of protocol 2")
def pickle_of_sets(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02](" + b"\x8f" * (MAX_OPERATIONS - 10) + b"e.")


@hostile("of another program")
def pickle_of_almost_too_many(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02](" + b"}" * (MAX_OPERATIONS - 10) + b"e.")


@hostile("of another program")
def pickle_of_storages(path: Path, marker: Path) -> None:
    """Write many references to an empty storage: torch makes a new storage for each."""
    again = b"h\x01Q" * (MAX_OPERATIONS // 2 - 100)
    pickled = b"\x80\x02](" + STORAGE + b"K\x00tq\x01Q" + again + b"e."
    archive(path, data_pkl=pickled, data__7=b"")


@hostile("of another program")
def pickle_of_nested_lists(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".")


@hostile("it names evil \\x1b[2Jname")
def pickle_with_an_escape_in_a_name(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02cevil\n\x1b[2Jname\n.")


@hostile("not a readable checkpoint")
def missing_storage(path: Path, marker: Path) -> None:
    archive(path, data_pkl=b"\x80\x02" + STORAGE + b"\x8a\x05\x00\x00\x00\x00\x08tQ.")


# checkpoints of other programs or other versions


@hostile("it is of another program")
def another_module(path: Path, marker: Path) -> None:
    class Regression(pl.LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(width, 1)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters())

    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(Regression(3))
    trainer.save_checkpoint(path)


@checkpoint("it is of another program")
def a_list(content: Any, marker: Path) -> Any:
    return [content]


@checkpoint("format=3: this lyricgen reads 2, update lyricgen")
def newer(content: Any, marker: Path) -> None:
    content["lyricgen"]["format"] = 3


@checkpoint("format=1: this lyricgen reads 2, train the model again")
def older(content: Any, marker: Path) -> None:
    content["lyricgen"]["format"] = 1


@checkpoint("no weights")
def without_weights(content: Any, marker: Path) -> None:
    del content["state_dict"]


# malformed cards


@checkpoint("should be 9x65536, it is 9x12")
def huge_sizes(content: Any, marker: Path) -> None:
    content["lyricgen"]["architecture"] |= {"hidden_size": 65_536, "layers": 256}


@checkpoint("less than or equal to 256")
def too_many_layers(content: Any, marker: Path) -> None:
    content["lyricgen"]["architecture"]["layers"] = 10**9


@checkpoint("lyricgen reads 2")
def format_of_a_thousand(content: Any, marker: Path) -> None:
    content["lyricgen"]["format"] = 999


@checkpoint("format=1000")
def huge_number(content: Any, marker: Path) -> None:
    content["lyricgen"]["format"] = 10**600


@checkpoint("the vocabulary has 3900000 characters")
def long_vocabulary(content: Any, marker: Path) -> None:
    content["lyricgen"]["vocabulary"] = "\U0001f600" * 3_900_000


@checkpoint("vocabulary")
def vocabulary_of_nested_lists(content: Any, marker: Path) -> None:
    content["lyricgen"]["vocabulary"] = nested_pairs()


@checkpoint("more than 1000000 bytes")
def options_of_nested_lists(content: Any, marker: Path) -> None:
    content["lyricgen"]["options"] = {"data": nested_pairs()}


@checkpoint("more than 1000000 bytes")
def options_of_nested_tuples(content: Any, marker: Path) -> None:
    once: Any = ("ha",) * 50
    for _ in range(15):
        once = (once,) * 50
    content["lyricgen"]["options"] = {"data": once}


@checkpoint("nested more than 20 deep")
def deep_options(content: Any, marker: Path) -> None:
    content["lyricgen"]["options"] = {"data": nested(100)}


@checkpoint("nested more than 20 deep")
def options_that_contain_themselves(content: Any, marker: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    content["lyricgen"]["options"] = {"data": endless}


@checkpoint("not the plain values")
def tensor_among_the_options(content: Any, marker: Path) -> None:
    content["lyricgen"]["options"] = {"seed": torch.zeros(3)}


@checkpoint("not the plain values")
def nan_among_the_options(content: Any, marker: Path) -> None:
    content["lyricgen"]["options"] = {"seed": float("nan")}


@checkpoint("does not hold what it says: kkkkkk")
def long_key(content: Any, marker: Path) -> None:
    content["lyricgen"]["k" * 100_000] = 1


@checkpoint("control characters")
def escape_in_the_vocabulary(content: Any, marker: Path) -> None:
    content["lyricgen"]["vocabulary"] = "\n\x1bbcdeé分开"


# malformed tensors

weight("of_another_shape", lambda: torch.zeros(10), "output.bias should be 9, it is 10")
weight("of_integers", lambda: torch.zeros(9, dtype=torch.int64), "output.bias is torch.int64")
weight("of_booleans", lambda: torch.zeros(9, dtype=torch.bool), "torch.bool")
weight("of_complex", lambda: torch.zeros(9, dtype=torch.complex64), "torch ComplexFloatStorage")
weight("of_eight_bits", lambda: torch.zeros(9).to(torch.float8_e4m3fn), "it names")
weight("sparse", lambda: torch.zeros(9).to_sparse(), "_rebuild_sparse_tensor")
weight(
    "quantised", lambda: torch.quantize_per_tensor(torch.zeros(9), 0.1, 0, torch.qint8), "it names"
)
weight("nested", lambda: torch.nested.nested_tensor([torch.zeros(9)]), "_rebuild_nested_tensor")
weight("without_values", lambda: torch.zeros(9, device="meta"), "meta")
weight("not_a_number", lambda: torch.full((9,), float("nan")), "not finite")
weight("infinite", lambda: torch.full((9,), float("inf")), "not finite")
weight("expanded", lambda: torch.zeros(1).expand(9), "strides")
weight("of_tebibytes", lambda: torch.zeros(1).expand(2**20, 2**20), "strides")
weight("with_hooks", lambda: torch.nn.Parameter(torch.zeros(9)), "_rebuild_parameter")
weight("with_names", lambda: "output.bias", "output.bias should be 9, it is absent")


@checkpoint("more than the file")
def one_storage_for_all(content: Any, marker: Path) -> None:
    rows = torch.zeros(30_000)
    content["state_dict"] = {f"model.{number}": rows for number in range(1000)}


@checkpoint("strides")
def declared_and_expanded(content: Any, marker: Path) -> None:
    content["lyricgen"]["architecture"] |= {"hidden_size": 65_536}
    sizes = {"embedding.weight": (9, 65_536), "output.weight": (9, 65_536), "output.bias": (9,)}
    for part in ("weight_ih_l0", "weight_hh_l0"):
        sizes[f"recurrence.blocks.0.{part}"] = (4 * 65_536, 65_536)
    for part in ("bias_ih_l0", "bias_hh_l0"):
        sizes[f"recurrence.blocks.0.{part}"] = (4 * 65_536,)
    one = torch.zeros(1)
    content["state_dict"] = {f"model.{name}": one.expand(size) for name, size in sizes.items()}


# code

CODE: dict[str, Callable[[Any, Touch], Any]] = {
    "only_code": lambda content, code: code,
    "as_the_card": lambda content, code: content.update(lyricgen=code),
    "in_the_options": lambda content, code: content["lyricgen"]["options"].update(seed=code),
    "among_the_weights": lambda content, code: content["state_dict"].update(a=code),
    "beside": lambda content, code: content.update(hyper_parameters={"_instantiator": code}),
    "in_a_key": lambda content, code: content.update({(code,): 1}),
    "nested": lambda content, code: content.update(more=OrderedDict(a=[({"b": code},)])),
}
for place, put in CODE.items():

    def code(content: Any, marker: Path, put: Any = put) -> Any:
        return put(content, Touch(marker))

    checkpoint("it names", f"_{place}")(code)

TARGETS = ("_target_", "_instantiator", "_class_path", "class_path", "__reduce__")
for field in ("format", "architecture", "vocabulary", "layout", "lowercase"):

    def target(content: Any, marker: Path, field: str = field) -> None:
        named = dict.fromkeys(TARGETS, "pathlib.Path.touch")
        content["lyricgen"][field] = named | {"self": str(marker), "_args_": [str(marker)]}
        content["hyper_parameters"] = content["datamodule_hyper_parameters"] = named

    checkpoint("does not hold what it says", f"_in_{field}")(target)


# model files


def model_file(message: str) -> Callable[[Callable[[Any, Any], Any]], None]:
    """Add a valid model file with one change of its card or tensors."""

    def keep(change: Callable[[Any, Any], Any]) -> None:
        def build(path: Path, marker: Path) -> None:
            model = model_of()
            described, tensors = card(model), dict(model.network.state_dict())
            metadata = change(described, tensors)
            if metadata is None:
                metadata = {"lyricgen": json.dumps(described)}
            path.write_bytes(safetensors.torch.save(tensors, metadata=metadata))

        HOSTILE[f"shared_{change.__name__}"] = build, message

    return keep


def header_file(name: str, made: Callable[[dict[str, Any], bytes], bytes], message: str) -> None:
    """Add a model file made from the header and numbers of a valid one."""

    def build(path: Path, marker: Path) -> None:
        model = model_of()
        metadata = {"lyricgen": json.dumps(card(model))}
        whole = safetensors.torch.save(dict(model.network.state_dict()), metadata=metadata)
        length = int.from_bytes(whole[:8], "little")
        path.write_bytes(made(json.loads(whole[8 : 8 + length]), whole[8 + length :]))

    HOSTILE[f"header_{name}"] = build, message


def with_header(header: bytes | str, numbers: bytes = b"") -> bytes:
    header = header.encode() if isinstance(header, str) else header
    return len(header).to_bytes(8, "little") + header + numbers


def overlapping_header(header: dict[str, Any], numbers: bytes) -> bytes:
    header["output.bias"]["data_offsets"] = header["embedding.weight"]["data_offsets"]
    return with_header(json.dumps(header), numbers)


def huge_shape_header(header: dict[str, Any], numbers: bytes) -> bytes:
    header["embedding.weight"]["shape"] = [2**40, 2**40]
    return with_header(json.dumps(header), numbers)


def doubled_key_header(header: dict[str, Any], numbers: bytes) -> bytes:
    bias = json.dumps(header["output.bias"])
    return with_header(f'{{"output.bias": {bias}, {json.dumps(header)[1:]}', numbers)


def deep_header(header: dict[str, Any], numbers: bytes) -> bytes:
    return with_header('{"a":' + "[" * 40_000 + "]" * 40_000 + "}")


READABLE = "not a readable checkpoint"
header_file("of_no_end", lambda _, n: (2**63).to_bytes(8, "little") + b"{}" + n, "bytes, more than")
header_file("past_the_file", lambda _, n: (10**6).to_bytes(8, "little") + b"{}" + n, READABLE)
header_file("of_no_text", lambda _, n: with_header(b'{"\xff\xfe": 1}', n), READABLE)
header_file("of_no_object", lambda _, n: with_header("{]", n), READABLE)
header_file("deep", deep_header, READABLE)
header_file("of_many_values", lambda _, n: with_header('{"a":[' + "{}," * 10**6 + "0]}"), "values")
header_file("of_long_numbers", lambda _, n: with_header('{"a":' + "9" * 10_000 + "}"), READABLE)
header_file("of_one_key_twice", doubled_key_header, "the same key twice")
header_file("of_tensors_that_overlap", overlapping_header, READABLE)
header_file("of_another_shape", huge_shape_header, READABLE)
header_file("cut", lambda h, n: with_header(json.dumps(h), n[:-1]), READABLE)
header_file("with_more_behind", lambda h, n: with_header(json.dumps(h), n + b"PK\5\6"), READABLE)
header_file("without_metadata", lambda h, n: with_header(json.dumps({}), n), "no card")


@model_file("no card of lyricgen")
def of_another_program(described: Any, tensors: Any) -> Any:
    return {"format": "pt", "_target_": "os.system"}


@model_file(READABLE)
def without_json(described: Any, tensors: Any) -> Any:
    return {"lyricgen": "{'format': 2}"}


@model_file("the same key twice")
def with_a_key_twice(described: Any, tensors: Any) -> Any:
    return {"lyricgen": '{"format": 3, ' + json.dumps(described)[1:]}


@model_file(READABLE)
def with_a_deep_card(described: Any, tensors: Any) -> Any:
    return {"lyricgen": "[" * 40_000 + "]" * 40_000}


@model_file("bytes, more than")
def with_a_huge_card(described: Any, tensors: Any) -> Any:
    return {"lyricgen": json.dumps({"vocabulary": "a" * 10**7})}


@model_file("the vocabulary has 1900000 characters")
def with_a_long_vocabulary(described: Any, tensors: Any) -> Any:
    described["vocabulary"] = "\U0001f600" * 1_900_000
    return {"lyricgen": json.dumps(described, ensure_ascii=False)}


@model_file("does not hold what it says")
def with_a_list_as_card(described: Any, tensors: Any) -> Any:
    return {"lyricgen": "[1, 2]"}


@model_file("which is no number")
def with_nan_among_the_options(described: Any, tensors: Any) -> Any:
    described["options"] = {"seed": float("nan")}


@model_file("control characters")
def with_an_escape(described: Any, tensors: Any) -> Any:
    described["vocabulary"] = "\n\x1bbcdeé分开"


@model_file("control characters")
def with_an_end_of_documents(described: Any, tensors: Any) -> Any:
    described["vocabulary"] = "\x03\nbcdeé分开"


@model_file("a model of documents needs a start symbol and the character")
def of_documents_without_an_end(described: Any, tensors: Any) -> Any:
    described["layout"] = "documents"


@model_file("control characters")
def with_a_lone_surrogate(described: Any, tensors: Any) -> Any:
    described["vocabulary"] = "\nbcdeé分开\ud800"


@model_file("format=3")
def newer_than_us(described: Any, tensors: Any) -> Any:
    described["format"] = 3


@model_file("embedding.weight should be 9x65536")
def with_huge_sizes(described: Any, tensors: Any) -> Any:
    described["architecture"] |= {"hidden_size": 65_536, "layers": 256}


@model_file("more should be absent, it is 3")
def with_an_additional_tensor(described: Any, tensors: Any) -> Any:
    tensors["more"] = torch.zeros(3)


@model_file("output.bias should be 9, it is absent")
def with_a_missing_tensor(described: Any, tensors: Any) -> Any:
    del tensors["output.bias"]


@model_file("output.bias is torch.int64")
def of_integers(described: Any, tensors: Any) -> Any:
    tensors["output.bias"] = torch.zeros(9, dtype=torch.int64)


@model_file("float8_e4m3fn")
def of_eight_bits(described: Any, tensors: Any) -> Any:
    tensors["output.bias"] = torch.zeros(9).to(torch.float8_e4m3fn)


@model_file("not finite")
def of_nan(described: Any, tensors: Any) -> Any:
    tensors["output.bias"] = torch.full((9,), float("nan"))


# files of hybrid models; the n-grams have 3 symbols, of a vocabulary of 9 and START


def composite(
    kind: str, made: Callable[[], Any], message: str
) -> Callable[[Callable[[Any, Any], Any]], None]:
    """Add a checkpoint and a model file with one change of the card or the tensors."""

    def keep(change: Callable[[Any, Any], Any]) -> None:
        def changed() -> tuple[Any, Any]:
            model = made()
            tensors = {name: one.clone() for name, one in model.network.state_dict().items()}
            described = card(model)
            change(described, tensors)
            return described, tensors

        def build_checkpoint(path: Path, marker: Path) -> None:
            described, tensors = changed()
            weights = {f"model.{name}": tensor for name, tensor in tensors.items()}
            torch.save({"state_dict": weights, "lyricgen": described}, path)

        def build_model_file(path: Path, marker: Path) -> None:
            described, tensors = changed()
            metadata = {"lyricgen": json.dumps(described)}
            path.write_bytes(safetensors.torch.save(tensors, metadata=metadata))

        HOSTILE[f"{kind}_{change.__name__}"] = build_checkpoint, message
        HOSTILE[f"shared_{kind}_{change.__name__}"] = build_model_file, message

    return keep


def hybrid(message: str) -> Callable[[Callable[[Any, Any], Any]], None]:
    return composite("hybrid", hybrid_models.model_of, message)


def ngram_table(name: str, change: Callable[[torch.Tensor], Any], message: str) -> None:
    """Add hybrid files with one table of n-grams changed in place, or replaced."""
    table, _, what = name.partition(" ")

    def changed_table(described: Any, tensors: Any) -> None:
        found = change(tensors[f"ngram.{table}"])
        if isinstance(found, torch.Tensor):
            tensors[f"ngram.{table}"] = found

    changed_table.__name__ = f"{table}_{what.replace(' ', '_')}"
    hybrid(message)(changed_table)


def put(place: int, value: float) -> Callable[[torch.Tensor], None]:
    def change(table: torch.Tensor) -> None:
        table[place] = value

    return change


TERMS = "are not the terms of probabilities"
ngram_table("keys_1 out of range", put(-1, 10), "keys_1 should ascend from 0 to less than 10")
ngram_table("keys_2 below zero", put(0, -1), "keys_2 should ascend from 0")
ngram_table("keys_3 far out of range", put(-1, 2**62), "keys_3 should ascend from 0")
ngram_table("keys_2 unsorted", lambda keys: keys.flip(0), "keys_2 should ascend")
ngram_table("keys_3 twice", lambda keys: keys[:1].expand(len(keys)).clone(), "keys_3 should ascend")
ngram_table("keys_1 of START", put(-1, 9), "keys_1 has n-grams that no text can have")
ngram_table("keys_3 cut", lambda keys: keys[:-1].clone(), "direct_3 should have")
ngram_table("keys_1 empty", lambda keys: keys[:0].clone(), "direct_1 should have 1 numbers")
ngram_table("direct_2 huge", put(0, 1e300), TERMS)
ngram_table("direct_3 infinite", put(0, float("inf")), TERMS)
ngram_table("direct_2 of another sum", lambda terms: terms[0].add_(1e-3) and None, TERMS)
ngram_table(
    "direct_3 negative", lambda terms: terms[:2].add_(torch.tensor([9.0, -9.0])), "direct_3"
)
ngram_table("direct_1 of unseen", put(-1, 0.5), TERMS)
ngram_table("passed_1 not a number", put(0, float("nan")), TERMS)
ngram_table("passed_2 zero", lambda terms: terms.zero_(), TERMS)
ngram_table("passed_3 of unseen", put(-1, 0.5), TERMS)
ngram_table("passed_3 long", lambda terms: terms.repeat(2), "passed_3 should have")
ngram_table("keys_2 of fractions", lambda keys: keys.double(), "keys_2 is torch.float64")
ngram_table(
    "direct_2 of single precision", lambda terms: terms.float(), "plain row of torch.float64"
)
ngram_table("passed_1 of integers", lambda terms: terms.long(), "passed_1 is torch.int64")
ngram_table(
    "keys_1 of short integers", lambda keys: keys.int(), "is torch.int32, not plain numbers"
)
ngram_table("keys_3 in rows", lambda keys: keys[None], "keys_3 is torch.int64 of shape (1, ")


@hybrid("keys_3 has n-grams that no text can have")
def ngrams_with_unseen_ends(described: Any, tensors: Any) -> None:
    """Let an n-gram end in two symbols that are no n-gram of two symbols."""
    keys_3, keys_2 = tensors["ngram.keys_3"], tensors["ngram.keys_2"].tolist()
    for place, key in enumerate(keys_3.tolist()):
        begin, middle = key - key % 10, keys_2[key // 10] % 10
        following = keys_3[place + 1 : place + 2].sum() or begin + 9  # 9 would be START
        for symbol in range(key % 10 + 1, min(9, following - begin)):
            if 10 * middle + symbol not in keys_2:  # all symbols are in keys_1
                keys_3[place] = begin + symbol
                return
    raise AssertionError("no place")


@hybrid("direct_4 is absent")
def ngrams_of_a_lower_order(described: Any, tensors: Any) -> None:
    described["architecture"]["ngram"]["order"] = 4
    tensors["on_hidden.weight"], tensors["on_hidden.bias"] = torch.ones(5, 12), torch.ones(5)
    tensors["on_passed.weight"] = torch.ones(5, 4)


@hybrid("direct_3 is too many")
def ngrams_of_a_higher_order(described: Any, tensors: Any) -> None:
    described["architecture"]["ngram"]["order"] = 2
    tensors["on_hidden.weight"], tensors["on_hidden.bias"] = torch.ones(3, 12), torch.ones(3)
    tensors["on_passed.weight"] = torch.ones(3, 2)


@hybrid("on_hidden.bias should be 5, it is 4")
def mixture_of_another_order(described: Any, tensors: Any) -> None:
    described["architecture"]["ngram"]["order"] = 4


@hybrid("less than or equal to 9")
def ngrams_of_a_huge_order(described: Any, tensors: Any) -> None:
    described["architecture"]["ngram"]["order"] = 10**9


@hybrid("direct_1 is absent")
def without_ngrams(described: Any, tensors: Any) -> None:
    for name in [name for name in tensors if name.startswith("ngram.")]:
        del tensors[name]


@hybrid("network.output.bias should be 9, it is absent")
def without_a_part_of_the_network(described: Any, tensors: Any) -> None:
    del tensors["network.output.bias"]


@hybrid("on_passed.weight should be 4x3, it is absent")
def without_a_part_of_the_mixture(described: Any, tensors: Any) -> None:
    del tensors["on_passed.weight"]


@hybrid("on_hidden.bias has numbers that are not finite")
def mixture_that_is_not_finite(described: Any, tensors: Any) -> None:
    tensors["on_hidden.bias"][0] = float("nan")


@hybrid("on_hidden.weight is torch.int64")
def mixture_of_integers(described: Any, tensors: Any) -> None:
    tensors["on_hidden.weight"] = tensors["on_hidden.weight"].long()


@hybrid("network.embedding.weight should be 9x65536")
def network_of_huge_sizes(described: Any, tensors: Any) -> None:
    described["architecture"]["network"] |= {"hidden_size": 65_536, "layers": 256}


def short_list(ids: Any, message: str) -> None:
    def listed(described: Any, tensors: Any) -> None:
        described["architecture"]["short_list"] = ids

    listed.__name__ = f"short list {ids}"
    hybrid(message)(listed)


short_list([], "at least 2 items")
short_list([3, 9], "the short list is not of distinct ids of the vocabulary")
short_list([2, 3, 2], "the short list is not of distinct ids of the vocabulary")
short_list([3, -1], "greater than or equal to 0")


@hybrid("embedding.weight should be 9x12, it is absent")
def network_alone_on_the_card(described: Any, tensors: Any) -> None:
    described["architecture"] = described["architecture"]["network"]


@hybrid("direct_1 is absent")
def ngrams_alone_on_the_card(described: Any, tensors: Any) -> None:
    described["architecture"] = described["architecture"]["ngram"]


@hybrid("the network and the n-grams have different vocabularies")
def parts_of_different_vocabularies(described: Any, tensors: Any) -> None:
    described["architecture"]["ngram"]["vocabulary_size"] = 8


@hybrid("the network and the n-grams have different vocabularies")
def parts_of_different_layouts(described: Any, tensors: Any) -> None:
    described["architecture"]["ngram"]["start_symbol"] = True


@hybrid("a hybrid model predicts the next character")
def network_that_fills_gaps(described: Any, tensors: Any) -> None:
    described["architecture"]["network"]["objective"] = "fill"


@hybrid("with Kneser-Ney n-grams")
def ngrams_of_another_smoothing(described: Any, tensors: Any) -> None:
    described["architecture"]["ngram"]["smoothing"] = "add_k"


# files of ensembles: a GRU that knows more characters, n-grams, and a hybrid model


def ensemble(message: str) -> Callable[[Callable[[Any, Any], Any]], None]:
    return composite("ensemble", lambda: ensembles.writing_model_of(mapped=True), message)


def described_as(name: str, key: str, value: Any, message: str) -> None:
    """Add files of an ensemble with another value on the card."""

    def change(described: Any, tensors: Any) -> None:
        described["architecture"][key] = value

    change.__name__ = f"{key}_{name}"
    ensemble(message)(change)


MAPPED = [0, 3, 4, 5, 6, 7, 8, 11, 12]  # ids of the GRU for the nine characters
described_as("negative", "weights", [-0.5, 0.5, 1.0], "greater than or equal to 0")
described_as("of another sum", "weights", [0.5, 0.5, 0.5], "the weights sum to 1.5, not to 1")
described_as("too few", "weights", [0.5, 0.5], "needs as many weights and lists of ids")
described_as("huge", "weights", [1e300, 1e300, 1e300], "the weights sum to 3e+300")
described_as("text", "weights", "half", "weights")
described_as("unknown", "combination", "harmonic", "'arithmetic' or 'geometric'")
described_as("negative", "ids", [[-1, *MAPPED[1:]], None, None], "greater than or equal to 0")
described_as("out of range", "ids", [[*MAPPED[1:], 14], None, None], "not all in its vocabulary")
described_as("twice", "ids", [[*MAPPED[1:], 3], None, None], "not 9 distinct ones")
described_as("too few", "ids", [MAPPED[1:], None, None], "not 9 distinct ones")
described_as("too many", "ids", [MAPPED, None, None, None], "as many weights and lists of ids")
described_as("missing", "ids", [None, None, None], "other characters than the ensemble")
described_as("none", "members", [], "at least 2 items")
described_as("larger", "vocabulary_size", 10, "the ids of a member are not 10 distinct ones")


@ensemble("needs as many weights and lists of ids")
def with_a_member_less(described: Any, tensors: Any) -> None:
    described["architecture"]["members"].pop()


@ensemble("does not hold what it says: architecture.members=[")
def with_many_members(described: Any, tensors: Any) -> None:
    described["architecture"]["members"] *= 1000


@ensemble("the weights sum to 2, not to 1")
def with_weights_and_a_member_more(described: Any, tensors: Any) -> None:
    for key, value in (("members", None), ("weights", 1.0), ("ids", None)):
        described["architecture"][key].append(value or described["architecture"][key][-1])


@ensemble("members.3.direct_1 is absent")
def with_a_member_without_tensors(described: Any, tensors: Any) -> None:
    for key, value in (("weights", 0.0), ("ids", None)):
        described["architecture"][key].append(value)
    described["architecture"]["members"].append(described["architecture"]["members"][1])


@ensemble("should be absent, it is")
def with_the_tensors_of_one_more(described: Any, tensors: Any) -> None:
    for key in ("members", "weights", "ids"):
        del described["architecture"][key][2]
    described["architecture"]["weights"] = [0.5, 0.5]


@ensemble("members.0.output.bias should be 14, it is absent")
def member_without_a_tensor(described: Any, tensors: Any) -> None:
    del tensors["members.0.output.bias"]


@ensemble("members.0.more should be absent, it is 3")
def member_with_one_more_tensor(described: Any, tensors: Any) -> None:
    tensors["members.0.more"] = torch.zeros(3)


@ensemble("more should be absent, it is 3")
def tensor_of_no_member(described: Any, tensors: Any) -> None:
    tensors["more"] = torch.zeros(3)


@ensemble("members.0.output.bias has numbers that are not finite")
def member_of_nan(described: Any, tensors: Any) -> None:
    tensors["members.0.output.bias"][0] = float("nan")


@ensemble("members.1.keys_2 should ascend")
def member_with_wrong_ngrams(described: Any, tensors: Any) -> None:
    tensors["members.1.keys_2"] = tensors["members.1.keys_2"].flip(0)


@ensemble("members.0.embedding.weight should be 14x65536")
def member_of_huge_sizes(described: Any, tensors: Any) -> None:
    described["architecture"]["members"][0] |= {"hidden_size": 65_536, "layers": 256}


@ensemble("the members have different layouts")
def members_of_different_layouts(described: Any, tensors: Any) -> None:
    described["architecture"]["members"][1]["start_symbol"] = True


@ensemble("a member of an ensemble predicts the next character")
def member_that_fills_gaps(described: Any, tensors: Any) -> None:
    described["architecture"]["members"][0]["objective"] = "fill"


@ensemble("from 'recurrent', 'hybrid', 'ngram'")
def ensemble_in_an_ensemble(described: Any, tensors: Any) -> None:
    described["architecture"]["members"][0] = copy.deepcopy(described["architecture"])


@ensemble("from 'recurrent', 'hybrid', 'ngram'")
def ensembles_in_ensembles(described: Any, tensors: Any) -> None:
    for _ in range(200):
        members = [described["architecture"], *described["architecture"]["members"][1:]]
        described["architecture"] = {**described["architecture"], "members": members}


@checkpoint("architecture.weights.0=nan", "_of_an_ensemble")
def weights_of_nan(content: Any, marker: Path) -> Any:
    model = ensembles.writing_model_of()
    content = content_of(model)
    content["lyricgen"]["architecture"]["weights"] = [float("nan"), 0.5, 0.5]
    return content


# paths that are no ordinary files


@hostile("has no checkpoints/best.ckpt")
def directory(path: Path, marker: Path) -> None:
    path.mkdir()


@hostile("no ordinary file")
def pipe(path: Path, marker: Path) -> None:
    os.mkfifo(path)


@hostile("no ordinary file")
def device(path: Path, marker: Path) -> None:
    path.symlink_to("/dev/zero")


@hostile("is not there")
def loop(path: Path, marker: Path) -> None:
    path.symlink_to(path)


# files of models with a memory: a hybrid model whose hidden states it reads


def memory(message: str) -> Callable[[Callable[[Any, Any], Any]], None]:
    return composite("memory", memory_models.model_of, message)


@memory("memory.bias should be 4, it is 3")
def with_a_short_bias(described: Any, tensors: Any) -> None:
    tensors["memory.bias"] = tensors["memory.bias"][:3].clone()


@memory("memory.on_hidden should be 4x12, it is absent")
def without_b(described: Any, tensors: Any) -> None:
    del tensors["memory.on_hidden"]


@memory("memory.on_counts has numbers that are not finite")
def of_infinity(described: Any, tensors: Any) -> None:
    tensors["memory.on_counts"][0, 0] = float("inf")


@memory("more should be absent, it is 3")
def with_one_more_tensor(described: Any, tensors: Any) -> None:
    tensors["more"] = torch.zeros(3)


@memory("inner.direct_3 is absent")
def with_a_table_missing(described: Any, tensors: Any) -> None:
    del tensors["inner.ngram.direct_3"]


@memory("only a hybrid model has hidden states")
def of_a_network_alone(described: Any, tensors: Any) -> None:
    described["architecture"]["inner"] = described["architecture"]["inner"]["network"]


@memory("the newline is outside the vocabulary")
def with_a_newline_outside(described: Any, tensors: Any) -> None:
    described["architecture"]["newline"] = 9


@memory("give each length once")
def with_falling_orders(described: Any, tensors: Any) -> None:
    described["architecture"]["recall"]["orders"] = [2, 1, 4]


@memory("less than or equal to 32")
def with_long_orders(described: Any, tensors: Any) -> None:
    described["architecture"]["recall"]["orders"] = [1, 2, 2**40]


@memory("less than or equal to 255")
def with_many_occurrences(described: Any, tensors: Any) -> None:
    described["architecture"]["recall"]["occurrences"] = 10**9


@memory("architecture.inner")
def with_a_memory_in_it(described: Any, tensors: Any) -> None:
    described["architecture"]["inner"] = dict(described["architecture"])
