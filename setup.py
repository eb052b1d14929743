"""The parts of the build that setup.cfg cannot express.

The hottest modules may be compiled, by Cython from their Python sources and the ``.pxd`` files
beside them. Nothing depends on it: a module that is not compiled runs from its source. Modules are
compiled where a C compiler is found, from the C files that a source distribution may hold, or else
by the Cython that is installed. The environment variable WSCLIENT_COMPILE changes that:

* 0: nothing is compiled;
* 1: Cython is required, and modules are compiled even for an editable installation, where they
  hide later changes of their sources.
"""

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError

COMPILED = Path("wsclient/stream/compiled")
SOURCES = ("wsclient/stream/channel.py", "wsclient/stream/frames.py")
CHOICE = os.environ.get("WSCLIENT_COMPILE", "")


def has_cython():
    try:
        import Cython.Compiler  # noqa: F401
    except ImportError:
        return False
    return True


def translate(source, target):
    """Translate a module to C."""
    from Cython.Compiler.Main import CompilationOptions, compile_single
    from Cython.Compiler.Options import default_options

    Path(target).parent.mkdir(parents=True, exist_ok=True)
    # Annotations are for readers and type checkers: a value may be of another type at run time.
    directives = {"language_level": 3, "annotation_typing": False, "binding": True}
    options = CompilationOptions(
        default_options, output_file=str(target), compiler_directives=directives
    )
    name = source.removesuffix(".py").replace("/", ".")
    if compile_single(source, options, name).num_errors:
        raise RuntimeError(f"Cython cannot compile {source}")


class Sdist(sdist):
    """With the tests and what they and the checks need, and the modules in C if possible."""

    def make_distribution(self):
        for folder in ("tests", ".ci", ".github"):
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            self.filelist.extend(str(p) for p in files if "__pycache__" not in p.parts)
        self.filelist.append(".ruff.toml")
        super().make_distribution()

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        if CHOICE != "0" and has_cython():
            for source in SOURCES:
                translate(source, Path(base_dir, source).with_suffix(".c"))


class BuildExt(build_ext):
    def run(self):
        is_beside_sources = self.inplace or self.editable_mode
        if CHOICE == "1" or not is_beside_sources:
            if is_beside_sources:
                COMPILED.mkdir(exist_ok=True)
            super().run()

    def build_extension(self, ext):
        (source,) = ext.sources
        target = Path(source).with_suffix(".c")
        if not target.exists():
            target = Path(self.build_temp, target)
            try:
                translate(source, target)
            except Exception as error:
                raise CompileError(f"{source} cannot be translated to C: {error}") from error
        ext.sources = [str(target)]
        super().build_extension(ext)


def extensions():
    """Return the modules to compile. The package ``compiled`` keeps them apart from the sources."""
    can_be = has_cython() or all(Path(source).with_suffix(".c").exists() for source in SOURCES)
    if CHOICE != "1" and (CHOICE == "0" or not can_be):
        return []
    names = [(source, f"wsclient.stream.compiled.{Path(source).stem}") for source in SOURCES]
    args = ["-g0"] if os.name == "posix" else []  # symbols make them five times as large
    return [
        Extension(name, [source], extra_compile_args=args, optional=CHOICE != "1")
        for source, name in names
    ]


setup(
    cmdclass={"build_ext": BuildExt, "sdist": Sdist},
    ext_modules=extensions(),
    setup_requires=["Cython>=3.1"] if CHOICE == "1" and not has_cython() else [],
)
