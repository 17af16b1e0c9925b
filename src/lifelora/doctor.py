"""What this machine has and lacks, for ``lifelora doctor``. Changes nothing."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NEEDED = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "safetensors",
    "numpy",
    "pyarrow",
    "duckdb",
    "pydantic",
    "jaxtyping",
    "rich",
    "tomli-w",
    "matplotlib",
    "jinja2",
    "tensorboard",
)
OPTIONAL = {
    "peft": ("peft", "loading exported adapters with stock PEFT"),
    "bitsandbytes": ("gpu", "4- and 8-bit backbones"),
    "gguf": ("gguf", "backbones from .gguf files"),
    "sentence-transformers": ("text", "item vectors from a sentence encoder"),
}
GIB = 1 << 30


def report() -> tuple[str, bool]:
    """What is here, as text; and whether everything that lifelora needs is here."""
    lines = [f"Python        {platform.python_version()} ({sys.executable})", f"System        {platform.platform()}"]
    missing = []
    for name in ("lifelora", *NEEDED):
        found = _version(name)
        if found is None:
            missing.append(name)
        lines.append(f"{name:<13} {found or 'MISSING'}")
    for name, (extra, what_for) in OPTIONAL.items():
        lines.append(f"{name:<22} {_version(name) or f'absent (only for {what_for}): pip install lifelora[{extra}]'}")
    if "torch" not in missing:
        import torch

        lines.append(f"CPU           {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                free, total = (size / GIB for size in torch.cuda.mem_get_info(index))
                lines.append(f"GPU {index}         {torch.cuda.get_device_name(index)}, {free:.1f} of {total:.1f} GiB free")
        else:
            lines.append("GPU           none that torch can use")
    lines.append(f"Memory        {_free_memory()}")
    disk = shutil.disk_usage(Path.cwd())
    lines.append(f"Disk here     {disk.free / GIB:.1f} of {disk.total / GIB:.1f} GiB free")
    if disk.free < 2 * GIB:
        lines.append("              less than 2 GiB: a run on MovieLens-1M with a small LM needs about 1 GiB")
    lines.append(f"Missing: {', '.join(missing)}. Mend: pip install lifelora" if missing else "Nothing needed is missing.")
    return "\n".join(lines), not missing


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _free_memory() -> str:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return "unknown on this system"
    values = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.read_text().splitlines() if ":" in line}
    return f"{values['MemAvailable'] / (1 << 20):.1f} of {values['MemTotal'] / (1 << 20):.1f} GiB free"
