"""What loading settings raises."""


class SettingsError(Exception):
    """A variable that is missing or cannot be used. One line: its name and what it takes, never a secret's value."""


def missing(name: str, takes: str) -> SettingsError:
    return SettingsError(f"{name} is missing: it takes {takes}")


def unusable(name: str, takes: str) -> SettingsError:
    return SettingsError(f"{name} cannot be used: it takes {takes}")
