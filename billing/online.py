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


class AddColumn(migrations.AddField):
    """A column with a default, added without writing the table anew.

    PostgreSQL does that by itself. Django would have SQLite copy the table, which takes long where there are many rows
    and fails where a view reads it; here SQLite keeps the default in the column.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "sqlite":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        column = model._meta.get_field(self.name)
        definition, parameters = schema_editor.column_sql(model, column, include_default=True)
        names = {"table": model._meta.db_table, "column": column.column}
        names = {what: schema_editor.quote_name(name) for what, name in names.items()}
        statement = schema_editor.sql_create_column % {**names, "definition": definition}
        schema_editor.execute(statement, parameters)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "sqlite":
            super().database_backwards(app_label, schema_editor, from_state, to_state)
            return
        model = from_state.apps.get_model(app_label, self.model_name)
        names = {"table": model._meta.db_table, "column": model._meta.get_field(self.name).column}
        names = {what: schema_editor.quote_name(name) for what, name in names.items()}
        statement = schema_editor.sql_delete_column % names
        schema_editor.execute(statement)
