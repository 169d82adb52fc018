"""udr in other libraries: one module each, imported by its name, with the extra of that name."""
