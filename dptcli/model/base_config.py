"""What every configuration shares: checked once, dictionaries and files, unknown keys, labels.

Names and defaults are those of the hub's `config.json`, so that a file written by the reference
reads here and the other way round. Keys that we do not know are kept and written back.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from dptcli.errors import ConfigError
from dptcli.model.checks import require_bool, require_int


@dataclass(frozen=True, init=False)
class Config:
    """What every configuration shares: dictionaries, files, unknown keys."""

    model_type: ClassVar[str] = ""
    # Groups of fields of which each follows from any other.
    synonyms: ClassVar[Sequence[Sequence[str]]] = ()

    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict: bool = True

    def __init__(self, **values: Any) -> None:
        """Set the fields that are given, the defaults for the others, and keep unknown keys.

        Raises ConfigError when a value is wrong.
        """
        given_type = values.pop("model_type", self.model_type)
        if given_type != self.model_type:
            raise ConfigError(
                f"model_type: {given_type!r} is not for {type(self).__name__}; "
                f"it takes {self.model_type!r}"
            )
        for field in dataclasses.fields(self):
            value = values.pop(field.name, field.default)
            if value is None and isinstance(field.default, bool):  # null says nothing
                value = field.default
            object.__setattr__(self, field.name, _freeze(value))
        object.__setattr__(self, "extra", values)
        self.__post_init__()
        for field in dataclasses.fields(self):
            if isinstance(field.default, bool):
                require_bool(field.name, getattr(self, field.name))

    def __post_init__(self) -> None:
        """Derive and check; subclasses extend it."""

    def __getattr__(self, name: str) -> Any:
        """Unknown keys of the file read like attributes."""
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def _set(self, name: str, value: Any) -> None:
        """Set a derived value during `__post_init__`; afterwards the instance stays frozen."""
        object.__setattr__(self, name, value)

    @property
    def use_return_dict(self) -> bool:
        """Whether models answer with output objects (the default) or tuples."""
        return self.return_dict

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed, checked again."""
        return self.from_dict(self.to_dict(), **changes)

    def with_max_depth(self, max_depth_m: float) -> Self:
        """A copy whose metres end at `max_depth_m`. ConfigError where none bounds them."""
        raise ConfigError(
            f"max_depth {max_depth_m:g}: a {type(self).__name__} of this kind has no largest depth"
        )

    def to_dict(self) -> dict[str, Any]:
        """Every value, unknown keys and `model_type` included, as plain lists and dictionaries."""
        known = {field.name: _thaw(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {**self.__dict__["extra"], **known, "model_type": self.model_type}

    def to_json_string(self) -> str:
        """The text of config.json. A function as activation cannot be written: ConfigError."""
        try:
            return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        except TypeError as error:
            raise ConfigError(
                f"{type(self).__name__} holds a value that JSON cannot say ({error}); "
                "give activations by name to save the configuration"
            ) from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Build from the dictionary of a config.json; `overrides` win.

        Of fields that say the same thing in several ways, those beside an overridden one are left
        out.
        """
        return cls(**overridden(values, overrides, cls.synonyms))

    @classmethod
    def from_json_file(cls, path: str | Path) -> Self:
        """Build from a JSON file. Raises ConfigError when it is not one."""
        from dptcli.weights.folder import read_json

        return cls.from_dict(read_json(Path(path)))

    @classmethod
    def from_pretrained(cls, source: str | Path, **overrides: Any) -> Self:
        """Build from the config.json of a folder in the hub's layout; `overrides` win.

        source: the folder, or a name that `dpt models` lists, or `owner/name[@revision]`.
        """
        from dptcli.weights.folder import CONFIG_NAME
        from dptcli.weights.gives import described_config
        from dptcli.weights.sources import settings_file

        values = described_config(settings_file(source, CONFIG_NAME).parent)
        nested = values.get("backbone_config")
        if values.get("model_type") != cls.model_type and isinstance(nested, Mapping):
            values = dict(nested)  # a backbone's configuration read from a whole model's folder
        return cls.from_dict(values, **overrides)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json into `folder`, which is made when it is missing."""
        from dptcli.results.files import write_text

        write_text(Path(folder) / "config.json", self.to_json_string())


@dataclass(frozen=True, init=False)
class LabelledConfig(Config):
    """Adds the class names of a task: id2label, label2id and num_labels agree with each other."""

    synonyms: ClassVar[Sequence[Sequence[str]]] = (("num_labels", "id2label", "label2id"),)

    id2label: Mapping[int, str] | None = None
    label2id: Mapping[str, int] | None = None

    def __init__(self, **values: Any) -> None:
        num_labels = values.pop("num_labels", None)
        super().__init__(**values)
        self._set_labels(num_labels)

    def _set_labels(self, num_labels: int | None) -> None:
        for name in ("id2label", "label2id"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise ConfigError(f"{name}: {getattr(self, name)!r} must be a dictionary")
        names: Mapping[Any, Any] | None = self.id2label
        if names is None and self.label2id is not None:
            names = {index: name for name, index in self.label2id.items()}
        if names is None:
            if num_labels is not None:
                require_int("num_labels", num_labels, low=1)
            names = {index: f"LABEL_{index}" for index in range(num_labels or 2)}
        try:
            id2label = {int(index): str(name) for index, name in names.items()}
        except (TypeError, ValueError):
            raise ConfigError(f"id2label: {list(names)[:5]} must be whole numbers") from None
        if sorted(id2label) != list(range(len(id2label))):
            raise ConfigError(
                f"id2label: ids {sorted(id2label)[:5]}… must count from 0 to {len(id2label) - 1}"
            )
        if num_labels is not None and num_labels != len(id2label):
            raise ConfigError(
                f"num_labels: {num_labels} does not fit the {len(id2label)} names of id2label; "
                "give one of the two"
            )
        self._set("id2label", id2label)
        if self.label2id is None:
            self._set("label2id", {name: index for index, name in id2label.items()})

    @property
    def num_labels(self) -> int:
        """How many classes there are."""
        assert self.id2label is not None
        return len(self.id2label)


def overridden(
    values: Mapping[str, Any], overrides: Mapping[str, Any], synonyms: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """The values with the overrides, without synonyms of what is overridden."""
    stale = {
        name for group in synonyms if any(other in overrides for other in group) for name in group
    }
    return {**{name: v for name, v in values.items() if name not in stale}, **overrides}


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
