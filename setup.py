from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist


class Sdist(sdist):
    """With the tests and what they and the checks need, for which setup.cfg has no word."""

    def make_distribution(self):
        for folder in ("tests", ".ci", ".github"):
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            self.filelist.extend(str(p) for p in files if "__pycache__" not in p.parts)
        self.filelist.append(".ruff.toml")
        super().make_distribution()


setup(cmdclass={"sdist": Sdist})
