"""Runs, samples, shards and commands for the tests of what people hand each other that is damaged or means harm."""

import io
import tarfile

from PIL import Image

from ssr_core import cli
from ssr_core.shown import LONGEST_MESSAGE
from ssr_core.training.examples import VisionShape
from ssr_core.training.ssr import SSRConfig, SubjectInputs

FIELDS = {
    "base": "mini", "inner_width": 32, "heads": 2, "steps": 4, "batch_size": 2, "lr": 1e-3, "workers": 0, "save_every": 2,
}  # fmt: skip

SHAPE = VisionShape(size=32, grid=4)


def settings(world, out, **changes):
    return SSRConfig(**{**FIELDS, "data": str(world), "out": str(out), **changes})


def inputs(**changes):
    own = {"base": "folder", "data": "data", "out": "out", "size": 16, "batch_size": 2, "workers": 0, "drop_prompt": 0.0}
    return SubjectInputs(SSRConfig(**{**own, **changes}), SHAPE)


def tar_of(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def png(value=0):
    content = io.BytesIO()
    Image.new("RGB", (20, 20), (value, value, value)).save(content, "PNG")
    return content.getvalue()


GENERATE = ("generate", "--reference", "a.png", "--query", "star", "--prompt", "a star")


def refusal(capsys, *arguments):
    """What a command says that ends with 2."""
    try:
        code = cli.main(list(map(str, arguments)))
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
    assert len(said) < LONGEST_MESSAGE + 200
    assert all(mark == "\n" or mark.isprintable() for mark in said)
    return said
