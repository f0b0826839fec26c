select platform, name, value from platform_settings
