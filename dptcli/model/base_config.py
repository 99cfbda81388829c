"""What every configuration shares: checked values, dictionaries and files, unknown keys, labels.

Names and defaults are those of the hub's `config.json`, so that a file written by the reference
reads here and the other way round. Keys that we do not know are kept and written back.
"""

import dataclasses
import inspect
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from dptcli.errors import ConfigError
from dptcli.model.access import NEVER_KEPT, Access, split_access
from dptcli.model.checks import require_bool, require_int

logger = logging.getLogger(__name__)

# Values that the reference's configurations share and that shape nothing here: kept when given.
_SHARED = frozenset(
    {"architectures", "attn_implementation", "chunk_size_feed_forward", "dtype", "finetuning_task"}
    | {"is_decoder", "name_or_path", "output_attentions", "output_hidden_states", "problem_type"}
    | {"return_dict", "task_specific_params", "tie_word_embeddings", "torch_dtype", "torchscript"}
    | {"transformers_version", "use_bfloat16", "_name_or_path", "_attn_implementation"}
)


class _Signature:
    """The parameters of a configuration, for `help` and `inspect`: its fields and defaults."""

    def __get__(self, _config: object, kind: "type[Config]") -> inspect.Signature:
        keyword, rest = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD
        parameters = [
            inspect.Parameter(field.name, keyword, default=field.default)
            for field in dataclasses.fields(kind)
        ]
        return inspect.Signature([*parameters, inspect.Parameter("kwargs", rest)])


@dataclass(init=False)
class Config:
    """What every configuration shares: dictionaries, files, unknown keys.

    Values can be changed by assignment: the whole is then checked as at construction, and what
    follows from the value (the other spelling of stages or labels) follows. Values that only fit
    together are changed together, by `update`. A model that is already built stays as it is,
    except for `followed`, and the log says so.
    """

    model_type: ClassVar[str] = ""
    # Groups of fields of which each follows from any other.
    synonyms: ClassVar[Sequence[Sequence[str]]] = ()
    # Fields that a model looks up on every call, not when it is built.
    followed: ClassVar[frozenset[str]] = frozenset(
        {"output_attentions", "output_hidden_states", "return_dict", "id2label", "label2id"}
    )
    __signature__ = _Signature()

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
            self._set(field.name, list(value) if isinstance(value, list | tuple) else value)
        older = values.pop("torch_dtype", None)  # the older name goes stale beside the new one
        if older is not None and values.get("dtype") is None:
            values["dtype"] = older
        self._set("extra", {name: v for name, v in values.items() if name not in NEVER_KEPT})
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

    def __setattr__(self, name: str, value: Any) -> None:
        """Change one value; see `update`. Names with an underscore are notes, never saved."""
        if name.startswith("_"):
            self._set(name, value)
        else:
            self.update({name: value})

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to no model."""
        return {name: value for name, value in self.__dict__.items() if name != "_is_built"}

    def _set(self, name: str, value: Any) -> None:
        """Set a value without a check, as construction does."""
        self.__dict__[name] = value

    def update(self, values: Mapping[str, Any]) -> None:
        """Change several values at once, checked together. Raises ConfigError, changing nothing."""
        fields = {field.name for field in dataclasses.fields(self)}
        spelled = {name for group in self.synonyms for name in group} | {"torch_dtype", "dtype"}
        for name in values:
            if hasattr(type(self), name) and name not in (*fields, *spelled, "model_type"):
                raise ConfigError(f"{name}: follows from the other values; change those")
        kept = {**self.extra, **{name: self.__dict__[name] for name in fields}}
        if "torch_dtype" in values:
            kept.pop("dtype", None)
        changed = type(self)(**overridden(kept, values, self.synonyms))
        if "_is_built" in self.__dict__:
            _tell_unfollowed(self, changed)
        self.__dict__.update(changed.__dict__)

    def belongs_to_model(self) -> None:
        """Check again what lists and dictionaries hold now; from here on, a model is built of it.

        Raises ConfigError.
        """
        self.__dict__.pop("_is_built", None)
        self.update({})
        self._set("_is_built", True)

    @property
    def dtype(self) -> Any:
        """The torch.dtype of the weights, None where the file says none."""
        named = self.extra.get("dtype")
        if not isinstance(named, str):
            return named
        import torch

        return getattr(torch, named, named)

    @property
    def torch_dtype(self) -> Any:
        """The old name of `dtype`."""
        return self.dtype

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
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values = {**self.extra, **known, "model_type": self.model_type}
        return {name: _plain(value) for name, value in values.items()}

    def to_diff_dict(self) -> dict[str, Any]:
        """What differs from the defaults, and `model_type`."""
        usual = type(self)().to_dict()
        return {
            name: value
            for name, value in self.to_dict().items()
            if name == "model_type" or name not in usual or usual[name] != value
        }

    def to_json_string(self, use_diff: bool = False) -> str:
        """The text of config.json; with use_diff, only what differs from the defaults.

        A function as activation cannot be written: ConfigError.
        """
        values = self.to_diff_dict() if use_diff else self.to_dict()
        try:
            return json.dumps(values, indent=2, sort_keys=True) + "\n"
        except TypeError as error:
            raise ConfigError(
                f"{type(self).__name__} holds a value that JSON cannot say ({error}); "
                "give activations by name to save the configuration"
            ) from error

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = False) -> None:
        """Write the text of config.json to a file of any name."""
        from dptcli.results.files import write_text

        write_text(Path(json_file_path), self.to_json_string(use_diff))

    @classmethod
    def from_dict(
        cls, config_dict: Mapping[str, Any], *, return_unused_kwargs: bool = False, **overrides: Any
    ) -> Any:
        """Build from the dictionary of a config.json; `overrides` win.

        Of fields that say the same thing in several ways, those beside an overridden one are left
        out. return_unused_kwargs: give (configuration, overrides that are none of its values).
        """
        if not return_unused_kwargs:
            return cls(**overridden(config_dict, overrides, cls.synonyms))
        known = {field.name for field in dataclasses.fields(cls)} | config_dict.keys()
        known |= {name for group in cls.synonyms for name in group}
        taken = {name: value for name, value in overrides.items() if name in known}
        unused = {name: value for name, value in overrides.items() if name not in known}
        return cls(**overridden(config_dict, taken, cls.synonyms)), unused

    @classmethod
    def from_json_file(cls, json_file: str | Path) -> Self:
        """Build from a JSON file. Raises ConfigError when it is not one."""
        from dptcli.weights.folder import read_json

        found: Self = cls.from_dict(read_json(Path(json_file)))
        return found

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The dictionary in a model's config.json, and the keywords that are not about files."""
        access, rest = split_access(kwargs)
        return cls._read(pretrained_model_name_or_path, access), rest

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        return_unused_kwargs: bool = False,
        **overrides: Any,
    ) -> Any:
        """Build from the config.json of a folder in the hub's layout; `overrides` win.

        pretrained_model_name_or_path: the folder, a file, a name that `dpt models` lists, or
        `owner/name[@revision]`. Among the overrides, those of `Access` (revision, token, …) say
        how to reach it and are never kept, nor are unknown ones.
        """
        access, changes = split_access(overrides)
        values = cls._read(pretrained_model_name_or_path, access)
        found = cls.from_dict(values, return_unused_kwargs=return_unused_kwargs, **changes)
        config = found[0] if return_unused_kwargs else found
        # Whatever it was meant for, a key to somewhere perhaps: no file of the model gets it.
        for name in changes.keys() & config.extra.keys() - values.keys() - _SHARED:
            logger.warning("%s: unknown %r is left out", cls.__name__, name)
            del config.extra[name]
        return found

    @classmethod
    def _read(cls, source: str | Path, access: Access) -> dict[str, Any]:
        from dptcli.weights.folder import CONFIG_NAME, read_config
        from dptcli.weights.gives import completed
        from dptcli.weights.sources import settings_file

        path = settings_file(source, CONFIG_NAME, access=access)
        values = completed(read_config(path.parent, path.name), path.parent)
        nested = values.get("backbone_config")
        if values.get("model_type") != cls.model_type and isinstance(nested, Mapping):
            values = dict(nested)  # a backbone's configuration read from a whole model's folder
        return values

    def save_pretrained(
        self, save_directory: str | Path, *, push_to_hub: bool = False, **_kwargs: Any
    ) -> None:
        """Write config.json into a folder, which is made when it is missing."""
        from dptcli.results.files import write_text

        refuse_push(push_to_hub)
        write_text(Path(save_directory) / "config.json", self.to_json_string())


def refuse_push(push_to_hub: object) -> None:
    """Raise ConfigError where an upload is asked for."""
    if push_to_hub:
        raise ConfigError(
            "push_to_hub: nothing is uploaded here; use `hf upload OWNER/NAME FOLDER`"
        )


@dataclass(init=False)
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


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    # A torch.dtype: files hold its name, and this module needs no torch.
    return str(value).removeprefix("torch.") if type(value).__name__ == "dtype" else value


def _tell_unfollowed(old: Config, new: Config) -> None:
    """Log which changed values a model that is already built does not follow."""
    followed = old.followed
    if getattr(old, "num_labels", None) != getattr(new, "num_labels", None):
        followed = followed - {"id2label"}
    changed = [
        "num_labels" if field.name == "id2label" else field.name
        for field in dataclasses.fields(old)
        if field.name not in followed and getattr(old, field.name) != getattr(new, field.name)
    ]
    if changed:
        logger.warning(
            "%s: the model that was built of this configuration stays as it is; build or load it "
            "anew with the changed one",
            ", ".join(changed),
        )
