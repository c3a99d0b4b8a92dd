"""A LiteRT file as a C array, for LiteRT for Microcontrollers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qpipe.errors import ExportError
from qpipe.export.micro import MICRO_OPERATORS, RESOLVER_METHODS
from qpipe.storage import write_text

ALIGNMENT = 16
BYTES_PER_LINE = 12


@dataclass(frozen=True)
class CArray:
    """A header and a source file with the bytes of a LiteRT file.

    Attributes:
        header: declares the array and its length.
        source: defines them.
        operators: of the file.
        missing: those that LiteRT for Microcontrollers does not have.
    """

    header: Path
    source: Path
    operators: tuple[str, ...]
    missing: tuple[str, ...]

    def summary(self) -> str:
        """Returns one sentence for the terminal."""
        if self.missing:
            return f"LiteRT for Microcontrollers does not have {', '.join(self.missing)}"
        return f"all {len(self.operators)} operators are there in LiteRT for Microcontrollers"


def write_c_array(path: Path, *, name: str | None = None) -> CArray:
    """Writes `<name>.h` and `<name>.cc` beside a LiteRT file: `alignas(16) const unsigned char <name>_tflite[]`.

    The header says which operators the file needs, as calls of a `MicroMutableOpResolver`.

    Args:
        path: of the LiteRT file.
        name: of both files and of the array; None takes that of the LiteRT file.

    Raises:
        ExportError: if there is no such file, or it is no LiteRT file.
        StorageError: if the files can't be written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path} can't be read: {error.strerror}") from None
    operators = _operators(path, content)
    symbol = re.sub(r"\W", "_", name or path.stem)
    symbol = f"_{symbol}" if symbol[0].isdigit() else symbol
    header, source = (path.with_name(f"{name or path.stem}{ending}") for ending in (".h", ".cc"))
    missing = tuple(operator for operator in operators if operator not in MICRO_OPERATORS)
    write_text(header, _header(symbol, operators, missing))
    write_text(source, _source(symbol, header.name, content))
    return CArray(header, source, operators, missing)


def _operators(path: Path, content: bytes) -> tuple[str, ...]:
    """Names of the operators of a file, each once."""
    from qpipe.export.litert import require_litert

    require_litert()
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise ExportError(f"{path} is no LiteRT file")
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(content)
    return tuple(sorted(names[code.builtinCode] for code in model.operatorCodes))


def _header(symbol: str, operators: tuple[str, ...], missing: tuple[str, ...]) -> str:
    guard = f"{symbol.upper()}_H_"
    resolver = [f"//   resolver.{RESOLVER_METHODS[operator]}();" for operator in operators if operator not in missing]
    lacking = [f"// LiteRT for Microcontrollers does not have {operator}." for operator in missing]
    return "\n".join(
        [
            "// A LiteRT model, written by qpipe. Operators that it needs:",
            f"//   tflite::MicroMutableOpResolver<{len(operators)}> resolver;",
            *resolver,
            *lacking,
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#include <cstddef>",
            "",
            f"extern const unsigned char {symbol}_tflite[];",
            f"extern const std::size_t {symbol}_tflite_length;",
            "",
            f"#endif  // {guard}",
            "",
        ]
    )


def _source(symbol: str, header: str, content: bytes) -> str:
    lines = [
        "    " + ", ".join(f"0x{byte:02x}" for byte in content[start : start + BYTES_PER_LINE]) + ","
        for start in range(0, len(content), BYTES_PER_LINE)
    ]
    return "\n".join(
        [
            f'#include "{header}"',
            "",
            f"alignas({ALIGNMENT}) extern const unsigned char {symbol}_tflite[] = {{",
            *lines,
            "};",
            f"extern const std::size_t {symbol}_tflite_length = sizeof({symbol}_tflite);",
            "",
        ]
    )
