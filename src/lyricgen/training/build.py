"""From options to the model and its module; `build_data` comes before, `build_trainer` after."""

from functools import partial

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.encoding import EncodedCorpus
from lyricgen.models.files.card import card
from lyricgen.models.fill_model import FillModel
from lyricgen.models.kinds import Model, recurrent
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.optimizers import build_optimizer, build_scheduler
from lyricgen.models.options import NgramArchitecture, NgramOptions, RecurrentArchitecture
from lyricgen.models.trained_model import TrainedModel
from lyricgen.training.build_data import layout_of
from lyricgen.training.ngram_module import NgramModule
from lyricgen.training.options import TrainOptions
from lyricgen.training.recurrent_module import FillModule, RecurrentModule
from lyricgen.training.scored_module import ScoredModule


def build_network(options: TrainOptions, datamodule: CharacterDataModule) -> Model:
    """The network with its initial weights, drawn from the global generator."""
    vocabulary, start_symbol = datamodule.vocabulary, layout_of(options) == "lines"
    if isinstance(options.model, NgramOptions):
        return NgramLanguageModel(
            NgramArchitecture(
                **options.model.model_dump(),
                vocabulary_size=len(vocabulary),
                start_symbol=start_symbol,
            )
        )
    network = recurrent(
        RecurrentArchitecture(
            kind="recurrent",
            vocabulary_size=len(vocabulary),
            start_symbol=start_symbol,
            objective=options.objective,
            layers=options.layers,
            hidden_size=options.hidden_size,
            cell=options.cell,
            depth=options.depth,
            model=options.model,
        )
    )
    if options.trainer.precision == "64-true":
        # before Lightning does it, which first puts a checkpoint's weights in float32
        network.double()
    network.initialise(options.seed)
    if options.model.output_bias == "zero":
        network.output.bias.detach().zero_()
    elif options.model.output_bias == "unigram":
        network.set_output_bias(datamodule.parts["train"].character_counts(len(vocabulary)))
    return network


def trained_model(
    options: TrainOptions, datamodule: CharacterDataModule, network: Model
) -> TrainedModel:
    """The network together with the characters it speaks."""
    train = datamodule.parts["train"]
    return TrainedModel(
        network,
        datamodule.vocabulary,
        layout_of(options),
        options.data.lowercase,
        options.model_dump(mode="json"),
        longest_line=None if train.line_starts is None else int(train.line_lengths.max()) - 1,
    )


def build_module(
    options: TrainOptions, datamodule: CharacterDataModule, network: Model
) -> ScoredModule:
    """The network with its loss, optimizer and schedule; n-grams have none of these."""
    plain = card(trained_model(options, datamodule, network))
    if isinstance(network, NgramLanguageModel):
        return NgramModule(network, plain)
    kind = FillModule if isinstance(network, FillModel) else RecurrentModule
    return kind(
        network,
        optimizer=partial(
            build_optimizer, options.optimizer, fused="mixed" not in options.trainer.precision
        ),
        schedule=partial(
            build_scheduler,
            options.scheduler,
            monitor=monitored(datamodule),
            epochs=options.trainer.max_epochs,
            steps_per_epoch=options.trainer.epoch_batches(len(datamodule.sampler)),
            max_steps=options.trainer.max_steps,
        ),
        label_smoothing=options.loss.label_smoothing,
        reduction=options.loss.reduction,
        card=plain,
        seed=options.seed,
    )


def monitored(datamodule: CharacterDataModule) -> str:
    """The loss that says which epoch is best: held-out where there is such a part."""
    return "val/loss" if "val" in datamodule.parts else "train/loss"


def describe(
    corpus: EncodedCorpus,
    datamodule: CharacterDataModule,
    network: Model,
) -> str:
    """One line on what is about to be trained on what."""
    size = len(datamodule.vocabulary)
    sizes = ", ".join(
        f"{name} {int(part.character_counts(size).sum()):,}"
        for name, part in datamodule.parts.items()
    )
    learnt = (
        ""
        if isinstance(network, NgramLanguageModel)
        else f", {network.num_parameters:,} parameters"
    )
    return (
        f"{corpus.name}: {len(corpus):,} characters, {size:,} distinct "
        f"({sizes}); {network.description}{learnt}"
    )
