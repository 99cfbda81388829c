"""A processor's parameters as its users handle them: attributes, dictionaries, files.

What the parameters mean, and which values are allowed, stands in config.py.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from dptcli.errors import ConfigError, MissingModelError, ModelError
from dptcli.model.access import NEVER_KEPT, Access, split_access
from dptcli.model.base_config import refuse_push
from dptcli.processing.config import ProcessorConfig
from dptcli.results.files import write_text

logger = logging.getLogger(__name__)

CONFIG_NAME = "preprocessor_config.json"
WHOLE_NAME = "processor_config.json"


class Settings:
    """Parameters that can be read and set as attributes, and in place (`size["height"] = 96`).

    config: what they are, checked; `extra`: unknown ones, kept and written back.
    """

    model_input_names: tuple[str, ...] = ("pixel_values",)
    type_name: ClassVar[str]  # what files call this processor
    extra: dict[str, Any]

    def __init__(self, **values: Any) -> None:
        config, extra = ProcessorConfig.from_dict(values)
        extra = {name: value for name, value in extra.items() if name not in NEVER_KEPT}
        # _lent: sizes and lists that were handed out, which their holder may change in place.
        self.__dict__.update(_config=config, extra=extra, _lent={})

    @property
    def config(self) -> ProcessorConfig:
        """The parameters as they are now. Raises ConfigError for what was changed in place."""
        config: ProcessorConfig = self.__dict__["_config"]
        lent = self.__dict__["_lent"]
        if lent:
            spelled = config.to_dict()
            changes = {name: value for name, value in lent.items() if value != spelled[name]}
            if changes:
                config = self.__dict__["_config"] = dataclasses.replace(config, **changes)
        return config

    def __getattr__(self, name: str) -> Any:
        if name in ("_config", "_lent", "extra") or name.startswith("__"):
            raise AttributeError(name)
        config, lent = self.__dict__["_config"], self.__dict__["_lent"]
        if name in lent:
            return lent[name]
        if name not in ProcessorConfig.__dataclass_fields__:
            known = {**self.extra, "image_processor_type": self.type_name}
            if name not in known:
                raise AttributeError(f"{type(self).__name__} has no parameter {name!r}")
            return known[name]
        spelled = config.to_dict()
        value = spelled[name] if name in spelled else getattr(config, name)
        if isinstance(value, dict | list):
            lent[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ProcessorConfig.__dataclass_fields__:
            config = dataclasses.replace(self.config, **{name: value})
            self.__dict__["_lent"].pop(name, None)
            self.__dict__["_config"] = config
        else:
            self.extra[name] = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return (self.config, self.extra) == (other.config, other.extra)

    __hash__ = None  # type: ignore[assignment]  # its parameters can be set

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()})"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """The processor of a configuration in any age's spelling; `overrides` win."""
        return cls(**{**values, **overrides})

    def to_dict(self) -> dict[str, Any]:
        """Every parameter and the kept unknown keys, in the reference's spelling."""
        return {**self.extra, **self.config.to_dict(), "image_processor_type": self.type_name}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        return_unused_kwargs: bool = False,
        **overrides: Any,
    ) -> Any:
        """Read preprocessor_config.json in a local folder (or that file itself).

        pretrained_model_name_or_path: also a name that `dpt models` lists, or
        `owner/name[@revision]` on the hub. Among the overrides, those of `Access` (revision,
        token, …) say how to reach it and are never kept, nor are unknown ones.
        return_unused_kwargs: give (processor, those). Raises ModelError where there is none and
        ConfigError where it says something wrong.
        """
        access, changes = split_access(overrides)
        path, values = read_settings(pretrained_model_name_or_path, access)
        try:
            found = cls.from_dict(values, **changes)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        unknown = changes.keys() & found.extra.keys() - values.keys()
        unused = {name: found.extra.pop(name) for name in unknown}
        if return_unused_kwargs:
            return found, unused
        for name in unused:
            logger.warning("%s: unknown %r is left out", cls.__name__, name)
        return found

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        push_to_hub: bool = False,
        **_kwargs: Any,
    ) -> list[str]:
        """Write preprocessor_config.json into a folder (made if missing), whole or not at all.

        Returns the files that it wrote. Raises ConfigError for push_to_hub.
        """
        refuse_push(push_to_hub)
        path = Path(save_directory) / CONFIG_NAME
        self.to_json_file(path)
        return [str(path)]

    def to_json_string(self) -> str:
        """The text of preprocessor_config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write that text to a file of any name, whole or not at all."""
        write_text(Path(json_file_path), self.to_json_string())

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """The processor that a file describes. Raises ModelError and ConfigError."""
        found: Self = cls.from_pretrained(json_file)
        return found


def read_settings(source: str | os.PathLike[str], access: Access) -> tuple[Path, dict[str, Any]]:
    """Find and read preprocessor_config.json, or what processor_config.json says of images.

    The reference's newer files hold a model's whole processing under the second name.
    Raises ModelError and ConfigError.
    """
    from dptcli.weights.sources import settings_file

    source = source if isinstance(source, str) else Path(source)
    try:
        path = settings_file(source, CONFIG_NAME, access=access)
    except MissingModelError:
        own = _of_authors(source, access)
        if own is not None:
            return Path(source), own
        path = settings_file(source, WHOLE_NAME, access=access)
    if not path.exists() and (path.parent / WHOLE_NAME).exists():
        path = path.parent / WHOLE_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        own = _of_authors(source, access)
        if own is not None:
            return path, own
        raise MissingModelError(
            f"no image processor at {path}; give a folder with {CONFIG_NAME}"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
    if isinstance(values, dict) and path.name == WHOLE_NAME:
        values = values.get("image_processor", values)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; allowed: a JSON object")
    return path, values


def _of_authors(source: str | Path, access: Access) -> dict[str, Any] | None:
    """The processor of a model in its authors' own layout, which has no file of it."""
    from dptcli.weights.folder import CONFIG_NAME as MODEL_CONFIG
    from dptcli.weights.folder import authors_processor, read_json
    from dptcli.weights.sources import settings_file

    try:
        name = authors_processor(read_json(settings_file(source, MODEL_CONFIG, access=access)))
    except ModelError:
        return None
    return None if name is None else {"image_processor_type": name}
