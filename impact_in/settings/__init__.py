"""What the environment and `.env` say (contract, section 1), checked before anything starts."""

from impact_in.settings.errors import SettingsError
from impact_in.settings.loading import load, platforms_without_variables
from impact_in.settings.platforms import PlatformSettings
from impact_in.settings.values import Settings

__all__ = ["PlatformSettings", "Settings", "SettingsError", "load", "platforms_without_variables"]
