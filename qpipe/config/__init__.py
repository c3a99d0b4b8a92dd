"""The configuration: its schema, how it is composed and checked, and how mistakes in it are told."""
