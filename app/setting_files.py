"""Secrets from files: `XRAY_SECRET_KEY_FILE` names a file that holds the value of a setting."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)


class SecretFiles(PydanticBaseSettingsSource):
    """Reads the secret settings that `XRAY_<NAME>_FILE` names a file of.

    Args:
        settings: the class whose `SecretStr` fields are read.
        sources: where the names of the files come from, the most important first.
    """

    def __init__(self, settings: type[BaseSettings], *sources: PydanticBaseSettingsSource):
        super().__init__(settings)
        self._sources = [each for each in sources if isinstance(each, EnvSettingsSource)]

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of a setting's file; None where no file is named."""
        if field.annotation is not SecretStr or not (path := self._given(f"{field_name}_file")):
            return None, field_name, False
        name = f"XRAY_{field_name.upper()}"
        if self._given(field_name):
            raise SettingsError(f"{name} and {name}_FILE are both set. Remove one of them.")
        try:
            content = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise SettingsError(
                f"{name}_FILE names {path}, which cannot be read: {problem}"
            ) from problem
        if not content:
            raise SettingsError(f"{name}_FILE names {path}, which is empty.")
        return content, field_name, False

    def __call__(self) -> dict[str, Any]:
        """All values that come from files."""
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}

    def _given(self, name: str) -> str:
        variable = f"xray_{name}"
        return next((v for each in self._sources if (v := each.env_vars.get(variable))), "")
