"""The roles of a model's outputs: which is the value, which the label, which the scores.

A sidecar states them, or the outputs' types, shapes and names leave only one possibility. If two outputs could have
one role, or a column of integers without a telling name is next to others, ConfigurationError asks for a sidecar's
line.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, NamedTuple

from gnomon_consumer.scorer.worker.models.classes import Classes, resolve
from gnomon_consumer.scorer.worker.models.sidecar import nearest
from gnomon_consumer.scorer.worker.models.signature import Signature
from gnomon_consumer.scorer.worker.models.tensor import Tensor
from gnomon_schemas.errors import ConfigurationError

Shape = Literal["maps", "sequence", "text", "truth", "whole", "number", "wide", "open", "other"]
_LABEL = re.compile(r"(^|[^a-z])(label|class|cluster|category)(s|_?ids?|_?index)?([^a-z]|$)")
_PROBABILITIES = re.compile(r"(^|[^a-z])(probabilit(y|ies)|proba|probs?)([^a-z]|$)")
_COLUMN_OF_CLASS = re.compile(r"i(-?\d+)")
"""The names that skl2onnx gives to the outputs of integer classes with `zipmap="columns"`."""


class Source(NamedTuple):
    """The source of a role: one column of an output, or all of it."""

    output: str
    column: int | None = None

    def __str__(self) -> str:
        return self.output if self.column is None else f"{self.output}[{self.column}]"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The decided roles. `positive` is the column of the scores that is the value.

    `flexible`: next to a label, the number of columns decides whether the output is the value (one) or the scores (one
    for each class). `guessed`: nobody stated that the scores are scores, so they must be probabilities. `unread`:
    outputs without a role.
    """

    value: Source | None = None
    label: Source | None = None
    scores: tuple[Source, ...] = ()
    maps: bool = False
    flexible: bool = False
    classes: Classes = field(default_factory=Classes)
    positive: int | None = None
    ranking: bool = False
    guessed: bool = False
    unread: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the outputs that are read, each once."""
        sources = (self.value, self.label, *self.scores)
        return tuple(dict.fromkeys(source.output for source in sources if source is not None))

    def __str__(self) -> str:
        names = self.classes.names
        scores = ", ".join(map(str, self.scores))
        if self.value is not None:
            value = f"output {str(self.value)!r}"
        elif self.positive is not None:
            value = f"the score of {names[self.positive]!r}" if names else f"column {self.positive} of the scores"
        else:
            value = "none"
        if self.flexible and self.value is not None:
            value += " (where it answers one number for each class, these are the scores)"
        over = f" over the classes {', '.join(names)}" if names else ", by the names in its maps" * self.maps
        parts = (
            f"value: {value}",
            "label: none" if self.label is None else f"label: output {str(self.label)!r}",
            f"scores: output {scores!r}{over}" if self.scores else "scores: none",
            *([f"not read: {', '.join(self.unread)}"] if self.unread else []),
        )
        return "; ".join(parts)

    @property
    def doubt(self) -> str | None:
        """Return why the answers could not be compared, with the sidecar's line that decides it; None if they can."""
        named = self.classes.names or self.maps
        if self.value is not None or self.label is not None or self.ranking or (self.scores and named):
            return None
        output = self.scores[0].output if self.scores else ""
        return (
            f"the output {output!r} has several columns, and their meaning is unknown: say in a sidecar"
            f" `classes: [a, b]` where they are scores of classes, `outputs: {{{output}: [value, null]}}` where the"
            " first of two is the value, or `task: ranking` where they rank a list"
        )


def read_outputs(
    outputs: Sequence[Tensor], signature: Signature, own: Mapping[str, tuple[str, ...]], rows: int | None
) -> Reading:
    """Decide the role of each output; raise ConfigurationError that shows the sidecar's line that decides it.

    `own`: the class labels that the model file itself holds, by output. `rows`: the fixed first dimension of the
    inputs, None if the model accepts any number of rows.
    """
    unknown = next((name for name in signature.outputs if name not in {one.name for one in outputs}), None)
    if unknown is not None:
        raise ConfigurationError(
            f"the model has no output {unknown!r}{nearest(unknown, [one.name for one in outputs])}"
        )
    choice = _Choice(outputs, signature, own, rows)
    choice.take_from_sidecar()
    if not (signature.task == "regression" or choice.label):
        choice.guess_label()
    if signature.task != "regression":
        choice.guess_scores()
    choice.guess_value()
    return choice.reading()


@dataclass
class _Choice:
    """The roles while they are being decided."""

    outputs: Sequence[Tensor]
    signature: Signature
    own: Mapping[str, tuple[str, ...]]
    rows: int | None
    _: KW_ONLY
    value: Source | None = None
    label: Source | None = None
    scores: tuple[Source, ...] = ()
    columns_of_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.shapes = {one.name: _shape(one, self.rows) for one in self.outputs}

    def unmentioned(self, *shapes: Shape) -> list[str]:
        """Return the outputs of these shapes that a sidecar does not mention."""
        return [name for name, shape in self.shapes.items() if shape in shapes and name not in self.signature.outputs]

    def take_from_sidecar(self) -> None:
        """Take the roles that a sidecar gives."""
        found: dict[str, list[Source]] = {"value": [], "label": [], "scores": []}
        widths = {one.name: one.width for one in self.outputs}
        for name, roles in self.signature.outputs.items():
            if isinstance(roles, tuple):
                if widths[name] not in (None, 1, len(roles)):  # 1: converters declare it for several targets too
                    raise ConfigurationError(
                        f"the output {name!r} has {widths[name]} columns, and the sidecar gives {len(roles)} roles"
                    )
                for column, role in enumerate(roles):
                    if role is not None:
                        found[role].append(Source(name, column))
            elif roles is not None:
                found[roles].append(Source(name))
        for role in ("value", "label"):
            if len(found[role]) > 1:
                several = " and ".join(str(source) for source in found[role])
                raise ConfigurationError(f"the sidecar makes both {several} the {role}; one is needed")
        self.value = next(iter(found["value"]), None)
        self.label = next(iter(found["label"]), None)
        self.scores = tuple(found["scores"])

    def guess_label(self) -> None:
        """Take the one column of texts or integers that is a label, by the model's own classes or its name."""
        candidates = self.unmentioned("text", "truth", "whole")
        certain = [name for name in candidates if self.own.get(name)]
        named = certain or [name for name in candidates if _LABEL.search(name.lower())]
        texts = [name for name in candidates if self.shapes[name] != "whole"]
        if len(named) == 1:
            self.label = Source(named[0])
        elif len(candidates) == 1 and (texts or self.unmentioned("maps")):
            self.label = Source(candidates[0])
        elif candidates:
            raise self.unclear("a label or a value" if len(candidates) == 1 else "the label", candidates)

    def guess_scores(self) -> None:
        """Take the one output of maps, or of several numbers for each row."""
        if self.scores:
            return
        candidates = self.unmentioned("maps", "wide", *(("open",) if self.label else ()))
        named = [name for name in candidates if _PROBABILITIES.search(name.lower())]
        if len(candidates) > 1 and len(named) != 1:
            raise self.unclear("the scores", candidates)
        self.scores = tuple(Source(name) for name in (named if len(candidates) > 1 else candidates))
        if not self.scores and self.label is not None:
            self.scores = self._columns_of_classes()

    def _columns_of_classes(self) -> tuple[Source, ...]:
        """Return one output for each class, as skl2onnx writes them with `zipmap="columns"`; else an empty list."""
        columns = self.unmentioned("number")
        own = self.own.get(self.label.output, ()) if self.label else ()
        if len(columns) < 2:
            return ()
        of_texts = [f"s{one}" for one in own]
        of_floats = [f"s{one}.0" for one in own]
        if own and columns in ([f"i{one}" for one in own], of_texts, of_floats):
            self.columns_of_classes = own
        elif not own and all(_COLUMN_OF_CLASS.fullmatch(name) for name in columns):
            self.columns_of_classes = tuple(name[1:] for name in columns)
        return tuple(map(Source, columns)) if self.columns_of_classes else ()

    def guess_value(self) -> None:
        """Take the one column of numbers."""
        if self.value is not None:
            return
        taken = {source.output for source in (self.label, *self.scores) if source is not None}
        regression = self.signature.task == "regression"
        shapes: tuple[Shape, ...] = ("number", "whole", "open") if regression else ("number",)
        if not regression and self.label is None and not self.scores:
            shapes = ("number", "open")  # next to a label it would hold scores
        candidates = [name for name in self.unmentioned(*shapes) if name not in taken]
        named = [name for name in candidates if name == "value"]
        if len(candidates) > 1 and len(named) != 1:
            raise self.unclear("the value", candidates)
        if candidates:
            self.value = Source((named or candidates)[0])

    def unclear(self, role: str, candidates: Sequence[str]) -> ConfigurationError:
        """Return the refusal, with the lines that would decide it."""
        described = {one.name: one for one in self.outputs}
        listed = " or ".join(f"{name!r} ({described[name]})" for name in candidates)
        others = [name for name in self.shapes if name not in candidates and name not in self.signature.outputs]
        others_too = f" next to {', '.join(map(repr, others))}" if others and len(candidates) == 1 else ""
        first, *rest = candidates
        role_of_first = "label" if "label" in role else role.rpartition(" ")[2]
        line = ", ".join([f"{first}: {role_of_first}", *(f"{name}: null" for name in rest)])
        return ConfigurationError(
            f"it is unclear which output of the model is {role}: {listed}{others_too};"
            f" state it in a sidecar, such as `outputs: {{{line}}}`"
        )

    def reading(self) -> Reading:
        """Return the roles together, with the classes that they refer to."""
        sources = (self.value, self.label, *self.scores)
        read = {source.output for source in sources if source is not None}
        if not read:
            there = ", ".join(f"{one.name!r} ({one})" for one in self.outputs) or "none"
            raise ConfigurationError(
                f"the model has no output that is clearly a value, a label or scores (there are: {there});"
                " say in a sidecar what they are: `outputs: {NAME: value}`"
            )
        shape_of_label = self.shapes[self.label.output] if self.label else "other"
        maps = any(self.shapes[source.output] == "maps" for source in self.scores)
        own = next((self.own[source.output] for source in sources if source and self.own.get(source.output)), ())
        self._check_said()
        self._check_labels()
        width = self._width()
        classes = resolve(
            self.signature,
            own or self.columns_of_classes,
            whole=self.label is not None and shape_of_label != "text",
            width=width,
            needed=bool(self.label or self.scores),
        )
        positive = self._positive(classes, maps)
        if positive is not None and self.value is not None and self.value.output not in self.signature.outputs:
            raise self.unclear("the value", [self.value.output, *(source.output for source in self.scores[:1])])
        flexible = self._flexible()
        if flexible and positive is None:
            positive = classes.positive_place
        return Reading(
            value=self.value,
            label=self.label,
            scores=self.scores,
            maps=maps,
            flexible=flexible,
            classes=classes,
            positive=positive if self.value is None or flexible else None,
            ranking=self.signature.task == "ranking",
            guessed=all(source.output not in self.signature.outputs for source in self.scores),
            unread=tuple(name for name in self.shapes if name not in read),
        )

    def _check_said(self) -> None:
        """Raise ConfigurationError if a sidecar describes classes or a ranking that the model does not have."""
        said, by_hand = self.signature, self.signature.by_hand
        names = bool({"classes", "class_names"} & by_hand) and bool(said.classes or said.class_names)
        positive = "positive" in by_hand and said.positive is not None
        wrong = None
        if said.task == "regression" and (names or positive):
            wrong = "classes" if names else "positive", "`task: regression`"
        elif positive and not (self.label or self.scores):
            # Class names without scores or labels are harmless: tools write them for every classifier.
            wrong = "positive", f"the value from {str(self.value)!r} alone"
        if wrong:
            raise ConfigurationError(
                f"the sidecar says `{wrong[0]}`, but reads {wrong[1]}: leave it out, or say which output is the label"
                " or the scores, such as `outputs: {NAME: scores}`"
            )
        if said.task == "ranking" and "task" in by_hand and not self.scores:
            raise ConfigurationError(
                "the sidecar says `task: ranking`, but no output is read as scores: say which one it is, such as"
                f" `outputs: {{{(self.value or self.label or Source('NAME')).output}: scores}}`"
            )

    def _check_labels(self) -> None:
        """Raise ConfigurationError for an output of several labels a row: the scores are those of several targets."""
        if self.label is not None or self.signature.task == "regression":
            return
        for one in self.outputs:
            unread = self.shapes[one.name] == "other" and one.name not in self.signature.outputs
            by_row = one.takes in ("string", "int", "bool") and one.dims[0] in (None, 1, self.rows)
            if unread and by_row and (self.own.get(one.name) or _LABEL.search(one.name.lower())):
                raise ConfigurationError(
                    f"the output {one.name!r} ({one}) seems to hold several labels of a row, so the scores are those"
                    " of several targets, of which Gnomon reads one: export a model for each. If the other outputs"
                    f" are right without this one, say `outputs: {{{one.name}: null}}` in a sidecar"
                )

    def _width(self) -> int | None:
        """Return the number of scores of a row, if the model states it."""
        if not self.scores or any(source.column is not None for source in self.scores) or len(self.scores) > 1:
            return len(self.scores) or None
        return next(one.width for one in self.outputs if one.name == self.scores[0].output)

    def _positive(self, classes: Classes, maps: bool) -> int | None:
        """Return the column whose score is the value: that of the positive class, or of the second of two."""
        if not self.scores or self.signature.task == "ranking":
            return None
        if self.signature.positive is not None and not classes.names and not maps:
            raise ConfigurationError(
                f"`positive: {self.signature.positive}` cannot be found, because nothing names the columns of"
                f" {str(self.scores[0])!r}: list them in their order under `classes` in a sidecar"
            )
        return classes.positive_place

    def _flexible(self) -> bool:
        """Return whether an output declared as one number (or several) may return the other next to a label."""
        if self.label is None or self.signature.task == "ranking":
            return False
        guessed = [*self.scores, *([self.value] if self.value else [])]
        return (
            len(guessed) == 1
            and guessed[0].column is None
            and guessed[0].output not in self.signature.outputs
            and (self.shapes[guessed[0].output] in ("number", "wide", "open"))
        )


def _shape(one: Tensor, rows: int | None) -> Shape:
    """Return the declared content of an output for each row."""
    if one.maps:
        return "maps"
    # 1: an exporter traced the model with one row
    if one.takes is None or (one.dims and one.dims[0] not in (None, 1, rows)):
        return "other"
    if one.sequence:
        return "sequence"
    others = [dim for dim in one.dims[1:] if dim != 1]
    if len(others) > 1:
        return "other"
    if one.takes == "float":
        return "number" if not others else "open" if others[0] is None else "wide"
    if others:
        return "other"
    return "text" if one.takes == "string" else "truth" if one.takes == "bool" else "whole"
