"""A directory that `transformers` loads, and what reads the same files.

Our checkpoints are in Hugging Face's layout already, if the architecture is GPT-2's; with all of Llama's options
they are written in Llama's.  Added is what other programs look for: ``tokenizer.json``, a padding side, the longest
input, ``generation_config.json`` with a length that fits the context, the prompt form of an instruction model as a
chat template.  An architecture between the two has no equal in `transformers`; it is written all the same, in
gptcore's own layout, for gptcore alone.

The weights are written again from the loaded model instead of being copied: what leaves this project has passed
every check of the loader.

Rejected: ``model.push_to_hub`` and letting `transformers` save the files: its files name its own version
and change with it.
"""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gptcore.artifact import write_atomically, write_json
from gptcore.formats.directory import portable, save_model
from gptcore.prompt import template
from gptcore.tokenizer import END_OF_TEXT, JSON_FILE
from pipeline.exporters import Exported
from pipeline.exporters.parity import Reader
from pipeline.exporters.transformers_reader import reader_of


class HuggingFace:
    folder = ""

    def write(self, directory: Path, exported: Exported) -> None:
        layout = portable(exported.model.config)
        save_model(exported.model, directory, exported.tokenizer, layout)
        _add_tokenizer_files(directory, exported)
        if layout.foreign and not exported.model.labels:
            _add_generation_config(directory, exported)

    def reader(self, directory: Path) -> AbstractContextManager[Reader]:
        return reader_of(directory)


def _add_tokenizer_files(directory: Path, exported: Exported) -> None:
    if not (directory / JSON_FILE).exists():  # a published vocabulary has its own
        write_atomically(directory / JSON_FILE, _tokenizer_json(directory).encode())
    fields = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    side = "right" if exported.model.labels else "left"  # a text that goes on must end at the edge
    fields |= {"model_max_length": exported.longest, "padding_side": side, "truncation_side": side}
    write_json(directory / "tokenizer_config.json", fields)
    if exported.about.takes_instructions and exported.tokenizer.chat is None:
        write_atomically(directory / "chat_template.jinja", template(exported.tokenizer).encode())


def _tokenizer_json(directory: Path) -> str:
    """``vocab.json`` and ``merges.txt`` of ``directory`` in the one-file format of the `tokenizers` library."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Fast

    fast = Fast(models.BPE.from_file(str(directory / "vocab.json"), str(directory / "merges.txt")))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    fast.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    fast.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return fast.to_str(pretty=True) + "\n"


def _add_generation_config(directory: Path, exported: Exported) -> None:
    """A length that leaves half of the context to the prompt; `transformers` fails beyond the context."""
    eot = exported.tokenizer.eot
    special = {"bos_token_id": eot, "eos_token_id": exported.tokenizer.stop, "pad_token_id": eot}
    longest = max(1, min(100, exported.model.config.context_length // 2))
    fields: dict[str, Any] = {"max_new_tokens": longest, **special}
    if exported.about.takes_instructions:
        fields["do_sample"] = False  # one answer is wanted, the most likely one
    write_json(directory / "generation_config.json", fields)


EXPORTER = HuggingFace()
