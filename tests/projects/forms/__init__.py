"""An app whose tasks take arguments of every kind."""
