"""Migration operations that keep no writer waiting."""

from typing import Any

from django.db import migrations


class AddIndexOnline(migrations.AddIndex):
    """An index that PostgreSQL builds beside its writers. The migration must say `atomic = False`.

    A half-built one of an earlier try goes first. SQLite has no such thing and gets a plain index.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        schema_editor.remove_index(model, self.index, concurrently=True)  # says IF EXISTS
        schema_editor.add_index(model, self.index, concurrently=True)
