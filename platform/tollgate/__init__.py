"""The project package: settings, URLs, servers and commands. It imports every app; no app imports it."""
