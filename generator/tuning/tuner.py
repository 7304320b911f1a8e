"""Tuning a quantized model: in rounds, each of which quantizes some matrices and then trains all that is still float."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from generator.calibration import as_calibration, sample
from generator.calibration.language_model import Logits
from generator.deadline import Deadline
from generator.errors import InputError
from generator.progress import Listener, Stage
from generator.quantizers import Quantized
from generator.recipes.recipe import Choice, Recipe
from generator.statistics import Statistics
from generator.tuning.objective import Sequences
from generator.tuning.options import TuneOptions
from generator.tuning.parameters import ModelWeights
from generator.tuning.rounds import rounds_of
from generator.tuning.trained import KEPT_RATE, RATE, Gains, Trained, Whole, gains_of
from generator.tuning.training import Teacher, Training
from generator.user_code import call
from generator.weights.checkpoint import Checkpoint
from generator.weights.quantize import QuantizedCheckpoint, quantize_tensor
from generator.weights.workers import Alone, Source

Correct = Callable[[QuantizedCheckpoint], "Recipe | None"]

LAST = 2  # rounds that the last one, when everything is quantized, counts as
CHECKED = 8  # parts of what is held out that tell whether a round of training gained anything
PAUSE = 8  # updates between two looks at what is held out in the last round, …
PATIENCE = 12  # … and looks without a gain after which it ends


@dataclass(frozen=True)
class Tuned:
    """What tuning gave.

    Attributes:
        quantized: the better one of the tuned model and the one that was given.
        before: the divergence on what is held out without tuning, in nats per token.
        after: with it; no more than `before`.
        updates: how many were done.
    """

    quantized: QuantizedCheckpoint
    before: float
    after: float
    updates: int


class Tuner:
    """Tunes the quantized weights of one model towards its own predictions in float."""

    def __init__(self, model: nn.Module, batches: Sequence[Any], logits: Logits, options: TuneOptions):
        """Take the model, which is changed while `tune` runs, and only then.

        Args:
            model: with float weights, in eval mode.
            batches: tokens, see `Sequences`.
            logits: `logits(model, tokens)`.
            options: how long.

        Raises:
            InputError: the batches are unusable.
        """
        self._model, self._logits, self.options = model, logits, options
        self._sequences = Sequences(batches)

    @classmethod
    def of(cls, calibration: Any, options: TuneOptions, progress: Listener | None = None) -> Tuner:
        """The tuner of what a calibration function returned.

        Args:
            calibration: (model, batches, loss) or (model, batches, loss, logits); the loss is not used.
            options: how long, and on what.
            progress: told of tokens that are sampled, as stage "sample".

        Raises:
            InputError: it is unusable.
        """
        given = as_calibration(calibration)
        if options.self_generate:
            batches = sample(given, options.self_generate, seed=options.seed, progress=progress)
        else:
            batches = call("the calibration's batches can't be made", list, given.batches)
        return cls(given.model, batches, given.logits, options)

    def tune(
        self,
        checkpoint: Checkpoint,
        recipe: Recipe,
        plain: QuantizedCheckpoint,
        statistics: Statistics | None = None,
        progress: Listener | None = None,
        deadline: Deadline | None = None,
        correct: Correct | None = None,
    ) -> Tuned:
        """Quantize and train in rounds.

        Args:
            checkpoint: the model's weights.
            recipe: what each becomes.
            plain: what they become without tuning.
            statistics: of calibration.
            progress: told of each update, as stage "tune".
            deadline: when to end, if that is before the options say.
            correct: asked when everything is quantized for the first time, and again of what comes of its answer: None if it
                will do, or a recipe by which the matrices of the last round are quantized anew.

        Raises:
            InputError: the checkpoint is not the model's, or the model can't be trained.
        """
        weights = ModelWeights(self._model, checkpoint)
        teacher = Teacher(self._model, weights, self._logits, self._sequences)
        with weights.borrowed(self._model):
            return _Tuning(teacher, checkpoint, recipe, plain, statistics, self.options, progress, deadline, correct).run()


class _Tuning:
    """One run of it."""

    def __init__(
        self,
        teacher: Teacher,
        checkpoint: Checkpoint,
        recipe: Recipe,
        plain: QuantizedCheckpoint,
        statistics: Statistics | None,
        options: TuneOptions,
        progress: Listener | None,
        deadline: Deadline | None,
        correct: Correct | None,
    ):
        self.teacher, self.checkpoint, self.plain, self.statistics = teacher, checkpoint, plain, statistics
        self.choices: dict[str, Choice] = recipe.choose(checkpoint.tensors, checkpoint.names)
        self.deadline = min(options.deadline(), deadline or Deadline(), key=lambda one: one.moment)
        self.most = options.most
        self.progress, self.correct = progress, correct
        self.parts = teacher.sequences.order(options.seed)
        # Integers stay what they are in the model; what is not trained (buffers) is as the artifact will load it.
        real = [first for first, tensor in checkpoint.tensors.items() if tensor.is_floating_point()]
        self.values = {first: teacher.weights.value(first) for first in real}
        self.updates = 0
        trained = [first for first in teacher.weights.trained if first in self.values]
        self.values |= self._loaded({name: one for name, one in plain.tensors.items() if name not in trained})
        # Those are stored as they are, or in a shorter floating dtype: training goes on until the end.
        self.kept = [name for name in trained if plain.tensors[name].dequantizer == "keep"]
        self.rounds = rounds_of(checkpoint, [name for name in trained if name not in self.kept])
        self.gains: dict[str, Gains] = {}
        self.pace = 1.0  # of updates, as a share of the usual one
        if not self.kept and not self.rounds:
            raise InputError("nothing of the model can be tuned: no parameter that is packed requires gradients")

    def run(self) -> Tuned:
        total = self.most or 0
        with Stage("tune", self.progress, max(total, 1)) as stage:
            before = self.teacher.held_out(self._loaded(self.plain.tensors))
            results = dict(self.plain.tensors)
            later = [name for group in self.rounds for name in group]
            for number, group in enumerate(self.rounds):
                results |= self._quantize(group)
                later = later[len(group) :]
                while self.correct is not None and not later:
                    coming = {name: kind.guessed(results[name]) for name in group if (kind := gains_of(results[name]))}
                    other = self.correct(replace(self.plain, tensors=self._stored(results) | coming))
                    if other is None:
                        break
                    self.choices = other.choose(self.checkpoint.tensors, self.checkpoint.names)
                    results |= self._quantize(group)
                self._show({name: results[name] for name in group})
                if later:
                    self._train(stage, [*later, *self.kept], 1 / (len(self.rounds) - 1 - number + LAST))
            if self.rounds and self._judge(results)[0] >= before:
                stage.log.info("the rounds gained nothing; only what stays float is trained")
                results = dict(self.plain.tensors)
                self.gains = {}  # they take bytes that nobody has left
                self.values |= self._loaded(results) | {name: self.teacher.weights.value(name) for name in self.kept}
            after, results = self._train_rest(stage, results)
            if not after < before:
                stage.log.info("no gain: %.6f nats per token on what is held out, %.6f without tuning", after, before)
                return Tuned(self.plain, before, before, self.updates)
            stage.log.info("%d updates: %.6f nats per token on what is held out, from %.6f", self.updates, after, before)
            return Tuned(replace(self.plain, tensors=results), before, after, self.updates)

    def _train(self, stage: Stage, names: list[str], share: float) -> None:
        """Train some weights, and the gains there are, for a share of what is left; take it back, if that gains nothing.

        Where little is lost by rounding, updates of the usual size lose more. Then the next ones are half as large.
        """
        before = self.teacher.held_out(self.values, CHECKED)
        values = {name: self.values[name].clone() for name in (*names, *self.gains)}
        gains = {name: [one.clone() for one in known.parameters] for name, known in self.gains.items()}
        for _ in self._updates(stage, names, share):
            pass
        if self.teacher.held_out(self.values, CHECKED) < before:
            return
        stage.log.info("a round of training gained nothing at %g of the usual rate", self.pace)
        self.pace /= 2
        self.values |= values
        for name, known in gains.items():
            self.gains[name].parameters[:] = known

    def _show(self, results: dict[str, Quantized]) -> None:
        """Have the model use what was quantized, and train its gains from now on."""
        loaded = self._loaded(results)
        self.values |= loaded
        self.gains |= {name: kind(one, loaded[name]) for name, one in results.items() if (kind := gains_of(one))}

    def _train_rest(self, stage: Stage, results: dict[str, Quantized]) -> tuple[float, dict[str, Quantized]]:
        """Train gains and what stays float, until what is held out gains no more; the best of it, as it will be loaded."""
        best = self._judge(results)
        waited = 0
        for done, _ in enumerate(self._updates(stage, self.kept, 1.0)):
            if not done or done % PAUSE:
                continue
            found = self._judge(results)
            waited = 0 if found[0] < best[0] else waited + 1
            best = min(best, found, key=lambda one: one[0])
            if waited >= PATIENCE:
                return best
        return min(best, self._judge(results), key=lambda one: one[0])

    def _judge(self, results: dict[str, Quantized]) -> tuple[float, dict[str, Quantized]]:
        """The divergence on what is held out of the model as it would be loaded now, and that model."""
        found = self._stored(results)
        return self.teacher.held_out(self._loaded(found)), found

    def _stored(self, results: dict[str, Quantized]) -> dict[str, Quantized]:
        """What is quantized so far as it would be stored now, and what stays float."""
        return results | {name: one.quantized() for name, one in self.gains.items()} | self._quantize(self.kept)

    def _updates(self, stage: Stage, names: list[str], share: float) -> Iterator[float]:
        whole = {name: Whole(self.values[name], self.pace * (KEPT_RATE if name in self.kept else RATE)) for name in names}
        trained: dict[str, Trained] = {**whole, **self.gains}
        training = Training(self.teacher, self.values, trained)
        updates = None if self.most is None else round((self.most - self.updates) * share)
        deadline = self.deadline.within(share) if self.deadline else self.deadline
        for loss in training.run(self.parts, updates, deadline):
            self.updates += 1
            stage.total = max(stage.total, self.updates)
            stage.step(f"{loss:.5f} nats per token")
            yield loss

    def _quantize(self, names: list[str]) -> dict[str, Quantized]:
        """What tensors become with the values that they have now."""
        if not names:
            return {}
        tensors = {
            name: self.values[name].detach().to(self.checkpoint.tensors[name].dtype).cpu().contiguous() for name in names
        }
        source = Source(Checkpoint(tensors, {name: self.checkpoint.names[name] for name in names}), self.statistics)
        jobs = [(name, self.choices[name].quantizer) for name in names]
        return dict(zip(names, Alone(source).map(quantize_tensor, jobs, "quantize", self.progress), strict=True))

    def _loaded(self, results: dict[str, Quantized]) -> dict[str, Tensor]:
        """The values that an artifact will load, on the model's device."""
        known = self.values
        return {
            name: result.tensor().to(known[name].device, known[name].dtype) for name, result in results.items() if name in known
        }
