"""Compiles the packages of a new release, and takes over what an earlier release has compiled.

uv hard-links the modules of a package into each environment out of its cache, so a module that two
environments share is one file, and its bytecode is good for both: Python sets the path in it when
it is imported. Run by the interpreter of the new environment, it needs nothing but the library.
"""

import compileall
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

# Below this, starting more processes takes longer than compiling.
_MANY = 100
_CHUNK = 20


def main(arguments: list[str]) -> int:
    """Compile the packages of the first environment; the others are earlier ones, newest first."""
    new, *earlier = (Path(argument) for argument in arguments)
    for packages in new.glob("lib/python*/site-packages"):
        missing = [path for path in packages.rglob("*.py") if not _bytecode(path).exists()]
        for environment in earlier:
            old = environment / packages.relative_to(new)
            missing = [path for path in missing if not _take_over(old, packages, path)]
        _compile(missing)
    return 0


def _bytecode(module: Path) -> Path:
    name = f"{module.stem}.{sys.implementation.cache_tag}.pyc"
    return module.parent / "__pycache__" / name


def _take_over(old: Path, new: Path, module: Path) -> bool:
    """Link the bytecode of an earlier environment, if the module there is the very same file."""
    earlier = old / module.relative_to(new)
    try:
        if not earlier.samefile(module):
            return False
        compiled = _bytecode(module)
        compiled.parent.mkdir(exist_ok=True)
        os.link(_bytecode(earlier), compiled)
    except OSError:
        # It is not there, was removed meanwhile, or has as many links as a file may have.
        return False
    return True


def _compile(modules: list[Path]) -> None:
    """Compile modules; one that this Python cannot read is none that the service imports."""
    if len(modules) < _MANY:
        for module in modules:
            _compile_one(str(module))
        return
    with ProcessPoolExecutor() as pool:
        list(pool.map(_compile_one, [str(module) for module in modules], chunksize=_CHUNK))


def _compile_one(module: str) -> None:
    compileall.compile_file(module, quiet=2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
