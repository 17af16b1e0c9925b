"""The task ctr: will this user like this item? One number for each test sample. Knows scorers, no model."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from lifelora.data.dataset import Dataset
from lifelora.data.fields import as_texts
from lifelora.data.levels import one_class
from lifelora.errors import ConfigError
from lifelora.evaluation.jackknife import Jackknifed, Scored, jackknife
from lifelora.evaluation.measured import Validated, figures
from lifelora.evaluation.metrics import auc, log_loss
from lifelora.evaluation.report import ExampleUser, Report, Shown, SystemResult, measure, plain_table
from lifelora.run import knowledge
from lifelora.run.behaviours import behaviours
from lifelora.run.scorers.base import Requests, Scorer
from lifelora.run.scorers.blend import LikeBlend
from lifelora.run.scorers.costs import SCORING, counted, keep_costs
from lifelora.run.scorers.kept import keep_scores, of_test
from lifelora.run.scorers.like import LikeModel
from lifelora.run.scorers.yes_no import YesNo
from lifelora.run.tasks.base import Seconds, Task, curves, keep
from lifelora.types import PARTS, Part


class Ctr(Task):
    """P(like) of an item."""

    conventional = LikeModel
    language = YesNo
    blend = LikeBlend
    nano_also_read: ClassVar[str] = ", ratings and answers among them"

    def requests(self, part: Part, rows_N: Int[np.ndarray, "N"]) -> Requests:
        return Requests(self.context.dataset.targets(rows_N))

    def asked(self, user_B: Int[np.ndarray, "B"], items_BC: Int[np.ndarray, "B C"]) -> Requests:
        return Requests(self.context.dataset.candidates(np.repeat(user_B, items_BC.shape[1]), items_BC.ravel()), among=True)

    def check_data(self, dataset: Dataset) -> None:
        for part in PARTS:
            label_N = dataset.targets(dataset.samples[part]).label_B
            if label_N.all() or not label_N.any():
                names, above = dataset.level_names if dataset.has_ratings else None, self.context.recipe.data.rules.label_above
                raise ConfigError(one_class(names, above, part, len(label_N), likes=bool(label_N.all())))

    def metrics(self, scorer: Scorer, requests: Requests, score_NC: Float[np.ndarray, "N C"] | None = None) -> dict[str, float]:
        label_N, score_N = requests.targets.label_B, (scorer.score(requests) if score_NC is None else score_NC)[:, 0]
        return {"auc": auc(label_N, score_N), "log_loss": log_loss(label_N, score_N)}

    def judge(self, scorer: Scorer, folder: Path) -> None:
        requests = self.requests("test", self.context.test_samples)
        score_N1, took = counted(scorer, lambda: scorer.judged(requests, f"{scorer.name}: scoring test samples"))
        keep_scores(folder, score_N1)
        if took.samples:
            keep_costs(folder, {SCORING: took}, took.samples)

    def scores(self, name: str) -> Float[np.ndarray, "N"]:
        """What ``judge`` kept of a scorer."""
        return of_test(self.context, name)[:, 0]

    def scored(self, name: str) -> Scored:
        """It, with whom and what the scores are about."""
        targets = self.context.dataset.targets(self.context.test_samples)
        return Scored(targets.user_B, targets.item_B, targets.label_B, self.scores(name))

    def judged(self, name: str, others: Sequence[Task] = ()) -> Jackknifed:
        # Chance behind ECE is always drawn by the same seed, whatever the runs' own.
        return jackknife(
            [run.scored(name) for run in (self, *others) if isinstance(run, Ctr)], draws=self.context.recipe.evaluation.resamples
        )

    def report(self, seconds: Seconds, folder: Path, validated: Validated | None = None) -> None:
        from lifelora.evaluation.page import write_report  # matplotlib only when a page is asked for

        report = replace(self.gather(seconds), validated=validated)
        measured = measure(report)
        write_report(folder, report, measured)
        keep(folder, figures(measured), plain_table(measured))

    def gather(self, seconds: Seconds) -> Report:
        """Everything that the page tells."""
        context, recipe, dataset = self.context, self.context.recipe, self.context.dataset
        targets = dataset.targets(context.test_samples)
        scores = {name: self.scores(name) for name in self.scorers}
        systems = [
            SystemResult(
                name,
                self.family(name),
                scorer.reads(),
                scores[name],
                curves(scorer.stage.require()),
                seconds.get(scorer.stage.name),
                self.costs(name),
            )
            for name, scorer in self.scorers.items()
        ]
        truth_N, (of_target_N, of_user_N) = self._truth(), self.training_counts(targets)
        vectors = context.vectors.notes if context.stages.need_vectors else ()
        return Report(
            title=recipe.about or recipe.name,
            facts=[*self.facts(), *self._copies(seconds)],
            systems=systems,
            user_N=targets.user_B,
            item_N=targets.item_B,
            label_N=targets.label_B,
            history_N=targets.position_B,
            reference=([*recipe.systems] or [*recipe.conventional, *recipe.two_towers][0 if recipe.knowledge else -1 :])[0],
            target_events_N=of_target_N,
            user_events_N=of_user_N,
            truth_N=truth_N,
            best_possible_auc=None if truth_N is None else auc(targets.label_B, truth_N),
            example=self._example(scores),
            controls=self.controls(),
            notes=[
                *dataset.notes,
                *knowledge.notes(context),
                *vectors,
                *self.about_prompts(),
                *self.about_nano(),
                *self.about_scorers(),
            ],
            commands=self.commands(),
            positive="liked" if dataset.has_ratings else "chose",
            seed=recipe.seed,
            draws=recipe.evaluation.resamples,
            pairs=self.pairs,
        )

    def own_facts(self) -> list[tuple[str, str]]:
        rules, dataset = self.context.recipe.data.rules, self.context.dataset
        label = f"rating > {rules.label_above:g}" if dataset.has_ratings else "every event of the log is a like"
        negatives = f"; {rules.negatives.count} drawn beside each like, by {rules.negatives.by}" if rules.negatives else ""
        return [("label", f"{label}{negatives}; at least {rules.min_history} earlier behaviours")]

    def _copies(self, seconds: Seconds) -> list[tuple[str, str]]:
        """The copies of conventional models that make priors, and what they cost."""
        found = []
        for name, scorer in self.scorers.items():
            if isinstance(scorer, LikeModel) and scorer.copies:
                took = [second for copy in scorer.copies if (second := seconds.get(copy.stage.name)) is not None]
                cost = f"; they took {sum(took):,.0f} s" if len(took) == len(scorer.copies) else ""
                found.append((f"{len(scorer.copies)} copies of {name}", f"each fitted without the users of one fold{cost}"))
        return found

    def commands(self) -> list[tuple[str, str]]:
        first, *rest = super().commands()
        folder = shlex.quote(str(self.context.stages.folder))
        return [first, ("recommendations", f"lifelora recommend {folder} --user {shlex.quote(self.example_user())}"), *rest]

    def _truth(self) -> Float[np.ndarray, "N"] | None:
        """The probabilities that a source has drawn the labels by, where it knows them; their AUC is the best possible."""
        dataset, truth = self.context.dataset, getattr(self.context.recipe.data.source, "probability", None)
        if truth is None or len(dataset.negatives):  # which were not drawn by it
            return None
        rows = self.context.test_samples
        targets = dataset.targets(rows)
        truth_N: Float[np.ndarray, "N"] = truth(
            dataset.users.outside(targets.user_B), dataset.items.outside(targets.item_B), np.asarray(dataset.time_N[rows])
        )
        return truth_N

    def _example(self, scores: Mapping[str, np.ndarray]) -> ExampleUser:
        dataset, sample = self.context.dataset, self.example_sample()
        request = self.requests("test", np.array([sample]))
        chosen = {name: scorer.chosen(request) for name, scorer in self.scorers.items()}
        shown = [Shown(f"{how[0]}: shown to {name}", behaviours(dataset, how[1][0])) for name, how in chosen.items() if how]
        user, item = int(request.targets.user_B[0]), int(request.targets.item_B[0])
        profile = as_texts(dataset.profiles.slice(user, 1)).to_pylist()[0]
        place = int(np.flatnonzero(self.context.test_samples == sample)[0])
        return ExampleUser(
            user=dataset.users.outside([user])[0],
            facts=[(name, value) for name, value in profile.items() if name != "user" and value],
            shown=shown,
            target=dataset.titles[item],
            label=bool(request.targets.label_B[0]),
            scores={name: float(score_N[place]) for name, score_N in scores.items()},
        )
