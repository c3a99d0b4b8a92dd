"""Importing TensorFlow without the notes that its libraries print before they read any log level."""

from __future__ import annotations

import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Imports TensorFlow; what its libraries write to the standard error is shown only if that fails.

    `TF_CPP_MIN_LOG_LEVEL` is set to 2 (errors only) unless the user has set it; a user who has set it to 0
    sees everything.
    """
    if "tensorflow" in sys.modules:
        return
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        import tensorflow

        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        standard_error = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            notes.seek(0)
            os.write(standard_error, notes.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
