"""The classes of a model: its own labels, their names, and the positive one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gnomon_consumer.scorer.worker.models.signature import Signature
from gnomon_schemas.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Classes:
    """`names` in the order of the scores, empty if unknown; `by_label`: the name of each own label.

    `closed`: a label that is not in `by_label` is a failure. `positive_place`: the place of the positive class's score.
    `positive`: its name.
    """

    names: tuple[str, ...] = ()
    by_label: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False
    positive: str | None = None
    positive_place: int | None = None


def resolve(signature: Signature, own: tuple[str, ...], whole: bool, width: int | None, needed: bool) -> Classes:
    """Combine the model's own labels with their declared names; raise ConfigurationError if they disagree.

    `whole`: the label is a whole number, so an index if the model does not hold its own labels. `width`: the number of
    scores of a row, if known. `needed`: there are labels or scores.
    """
    if not needed or signature.task == "regression":
        return Classes()
    signature.require("classes")
    said, by_label = signature.classes, dict(signature.class_names)
    if own:
        names, by_label = _of_own(own, said, by_label)
    elif by_label:
        names = said
    else:
        names, by_label = said, _unknown_own(said, whole)
    if names and width not in (None, 1, len(names)):
        raise ConfigurationError(
            f"there are {len(names)} classes ({', '.join(names[:20])}), but the model answers {width} scores a row"
        )
    positive = _positive(signature.positive, names or tuple(by_label.values()))
    place = None
    if positive in names:
        place = names.index(positive)
    elif len(names) == 2 and positive is None:
        place = 1
    return Classes(names=names, by_label=by_label, closed=bool(by_label), positive=positive, positive_place=place)


def _of_own(
    own: tuple[str, ...], said: tuple[str, ...], by_label: dict[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    there = ", ".join(own[:20])
    if by_label:
        if set(by_label) != set(own):
            odd = next(iter(set(by_label) ^ set(own)))
            raise ConfigurationError(f"`classes` maps {odd!r} or leaves it out; the model's own labels are {there}")
        return tuple(by_label[one] for one in own), by_label
    if not said or set(said) == set(own):
        return own, {one: one for one in own}
    if len(said) != len(own):
        raise ConfigurationError(f"`classes` lists {len(said)} names; the model has {len(own)} classes: {there}")
    if not all(_whole(one) for one in own) or any(_whole(one) for one in said):
        raise ConfigurationError(f"`classes` lists {', '.join(said[:20])}; the model's own classes are {there}")
    return said, dict(zip(own, said, strict=True))


def _unknown_own(said: tuple[str, ...], whole: bool) -> dict[str, str]:
    """Return the name of each label if the model file does not list its labels."""
    indices = [str(index) for index in range(len(said))]
    if whole and said != tuple(indices) and said and all(_whole(one) for one in said):
        raise ConfigurationError(
            f"`classes: [{', '.join(said[:20])}]` may be the model's own labels or the names of the indices 0 to"
            f" {len(said) - 1}: say which as a mapping, such as `classes: {{{said[0]}: {said[0]}, …}}` or"
            f" `classes: {{0: {said[0]}, …}}`"
        )
    return dict(zip(indices, said, strict=True)) if whole else {one: one for one in said}


def _whole(text: str) -> bool:
    """Return whether a text is a whole number in a program's notation: `007` is a name."""
    return text.removeprefix("-").isdecimal() and text == str(int(text))


def _positive(said: str | None, names: tuple[str, ...]) -> str | None:
    """Return the name of the positive class as the model writes it; case may differ if only one name matches."""
    if said is None or not names or said in names:
        return said
    alike = [name for name in names if name.casefold() == said.casefold()]
    if len(alike) == 1:
        return alike[0]
    raise ConfigurationError(f"`positive: {said}` is not one of the classes: {', '.join(names[:20])}")
