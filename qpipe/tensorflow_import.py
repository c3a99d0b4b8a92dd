"""Importing TensorFlow without the notes that its libraries print before they read any log level."""

from __future__ import annotations

import logging
import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Imports TensorFlow; what its libraries write to the standard error is shown only if that fails.

    Warnings of its Python code (about functions that are traced again) are left out as well.
    `TF_CPP_MIN_LOG_LEVEL` is set to 2 (errors only) unless the user has set it; with 0 nothing that the libraries
    write is held back.
    """
    if "tensorflow" in sys.modules:
        return
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        import tensorflow

        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        standard_error = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow

            tensorflow.config.list_physical_devices()
        except BaseException:
            notes.seek(0)
            os.write(standard_error, notes.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
