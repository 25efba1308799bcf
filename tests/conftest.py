"""Checks every annotated shape of the package while the tests run."""

from jaxtyping import install_import_hook

install_import_hook("forecasting", "beartype.beartype")
