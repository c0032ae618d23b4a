"""``tokenizer.json``: any byte-level BPE, as the `tokenizers` library computes it.

The file names its parts: what normalizes a text, what cuts it into words, the merges, the added tokens.  The library
is the one that models are published with, so its ids are right by definition.  Where they are proven to be tiktoken's
too (`same_ids`), tiktoken encodes, several times as fast; where they are GPT-2's in all, it is a vocabulary like our
own.

The file is looked at before the library gets it: sizes, types, ids, and whether all is byte-level.  A text's special
tokens are text; they act only in a conversation, where the template has put them.

Rejected: the slow tokenizers of `transformers`, which are Python of the model's family, and a family without
``tokenizer.json``.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from gptcore.artifact import canonical_json, sha256_text, write_atomically, write_json
from gptcore.tokenizer import END_OF_TEXT, JSON_FILE, MOST_IDS, MOST_UNUSED, Tokenizer
from gptcore.tokenizer.added import Added, added_tokens
from gptcore.tokenizer.chat import JinjaChat
from gptcore.tokenizer.readers.byte_pairs import LONGEST_TOKEN, BytePairs, to_bytes
from gptcore.tokenizer.same_ids import BYTE_LEVEL, fast_encoding, pieces_of, ranks_of
from gptcore.untrusted import MB, read_bytes, read_json, shown

SETTINGS_FILE, TEMPLATE_FILE = "tokenizer_config.json", "chat_template.jinja"
LIMIT = 64 * MB
"""Of the file; those of 256,000 ids have 35 MB."""
PROVEN_FROM = 500_000
"""Bytes of texts, from which on a second for the proof that tiktoken may encode is well spent."""
NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
STARTS = ("<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>")
"""What documents are published to stand between; the first that a vocabulary has as a special token."""
PRE_TOKENIZERS = (
    "ByteLevel", "Split", "Digits", "Sequence", "Punctuation", "Whitespace", "WhitespaceSplit", "BertPreTokenizer",
    "CharDelimiterSplit", "UnicodeScripts", "FixedLength",
)  # fmt: skip
NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Replace", "Prepend", "Sequence")


class JsonTokenizer(Tokenizer):
    """A vocabulary as ``tokenizer.json`` has it."""

    most_unused = MOST_UNUSED

    def __init__(self, document: dict[str, Any], named: Mapping[str, str], template: str | None) -> None:
        """``named`` are the tokens that the model's settings name, as they are spelled: ``eos_token``.

        ``document`` is one that `made_of` has checked.  Raises ``ValueError`` for what can't be a byte-level BPE.
        """
        self._document = document
        self._added = added_tokens(document)
        self._bytes = _bytes_of(document, self._added)
        self.n_vocab = 1 + max(self._bytes, default=0)
        self._single = b"".join(token for token in self._bytes.values() if len(token) == 1)
        special = [token for token in self._added if token.special]
        self._special = frozenset(token.id for token in special)
        self.stop, self.eot = _ends({token.content: token.id for token in special}, named)
        spelled = {token.id: token.content for token in special}
        ends = {"eos_token": spelled[self.stop], "pad_token": spelled[self.eot]}
        self._named = {name: named[name] for name in NAMED if name in named} | ends
        self._library = _library(document, self._added)
        self.before = _before(self._library)
        self._encoded = 0
        self.chat = JinjaChat(template, special, self._named, self.encode, self.stop) if template else None

    def encode(self, text: str) -> list[int]:
        """Bytes that the vocabulary lacks are left out, as the library does: SmolLM2 has no private planes."""
        try:
            content = text.encode("utf-8")
        except UnicodeEncodeError:  # half of a surrogate pair
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            content = text.encode("utf-8")
        self._encoded += len(content)
        if self._encoded > PROVEN_FROM and self._fast is not None and not content.translate(None, self._single):
            return self._fast.encode(text, disallowed_special=())
        return self._library.encode(text, add_special_tokens=False).ids  # type: ignore[no-any-return]

    @cached_property
    def _fast(self) -> Any:
        """tiktoken's, where it is proven to give the same ids."""
        return fast_encoding(self._document, self._added)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._bytes.get(token, b"") for token in ids)

    def has_text(self, token: int) -> bool:
        return token in self._bytes and token not in self._special

    @cached_property
    def fingerprint(self) -> str:
        template = self.chat.template if self.chat else None
        return sha256_text(canonical_json([self._document, self._named, self.eot, self.stop, template]))

    def save(self, directory: Path | str) -> None:
        directory = Path(directory)
        content = json.dumps(self._document, ensure_ascii=False, indent=1)
        write_atomically(directory / JSON_FILE, (content + "\n").encode("utf-8"))
        write_json(
            directory / SETTINGS_FILE,
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                **self._named,
                "clean_up_tokenization_spaces": False,
            },
        )
        if self.chat:
            write_atomically(directory / TEMPLATE_FILE, self.chat.template.encode("utf-8"))


def read(directory: Path) -> Tokenizer:
    """From a model directory; of GPT-2's form it is a vocabulary like our own."""
    try:
        document = read_json(directory / JSON_FILE, LIMIT)
    except ValueError as error:
        raise ValueError(f"{JSON_FILE}: {error}") from None
    named, template = _settings(directory)
    try:
        return made_of(document, named, template)
    except ValueError as error:
        raise ValueError(f"{JSON_FILE}: {error}") from None


def made_of(document: Any, named: Mapping[str, str], template: str | None) -> Tokenizer:
    """Of what the file holds."""
    if not isinstance(document, dict):
        raise ValueError(f"expected an object, found {shown(document)}")
    _check(document)
    if template is None and (ranks := _of_gpt2(document)) is not None:
        return BytePairs(ranks)
    return JsonTokenizer(document, named, template)


def _of_gpt2(document: dict[str, Any]) -> dict[bytes, int] | None:
    """Ranks, if it is what `byte_pairs` computes: GPT-2's pattern, end-of-text as the last id, nothing before texts."""
    added = added_tokens(document)
    ranks = ranks_of(document, added)
    last = [Added(len(ranks or ()), END_OF_TEXT, special=True)]
    plain = pieces_of(document.get("pre_tokenizer")) == (BYTE_LEVEL,) and not document.get("normalizer")
    if not plain or added != last or not ranks or set(ranks.values()) != set(range(len(ranks))):
        return None
    return None if _before(_library(document, added)) else ranks


def _check(document: dict[str, Any]) -> None:
    """Raise ``ValueError`` with everything that speaks against a byte-level BPE; nothing has been built yet."""
    model = document.get("model")
    model = model if isinstance(model, dict) else {}
    if model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise ValueError(f"model: expected BPE with a vocab, found {shown(model.get('type'))}")
    problems = [
        f"model.{name} = {shown(model[name])}: this vocabulary has none"
        for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
        if model.get(name)
    ]
    problems += _unknown("pre_tokenizer", document.get("pre_tokenizer"), "pretokenizers", PRE_TOKENIZERS)
    problems += _unknown("normalizer", document.get("normalizer"), "normalizers", NORMALIZERS)
    if "ByteLevel" not in {part.get("type") for part in _parts(document.get("pre_tokenizer"), "pretokenizers")}:
        problems.append("pre_tokenizer: expected ByteLevel at its end; the vocabulary is not of bytes")
    merges = model.get("merges") or []
    if others := [merge for merge in merges if not _is_pair(merge)] if isinstance(merges, list) else [merges]:
        problems.append(f"model.merges: expected pairs of tokens, found {shown(others[0])}")
    wrong = [item for item in model["vocab"].items() if type(item[1]) is not int or not 0 <= item[1] < MOST_IDS]
    if wrong:
        problems.append(f"model.vocab: expected ids from 0 to {MOST_IDS - 1:,}, found {shown(wrong[0])}")
    elif len(set(model["vocab"].values())) < len(model["vocab"]):
        problems.append("model.vocab: expected each id once")
    if problems:
        raise ValueError("; ".join(problems))


def _is_pair(merge: Any) -> bool:
    """In the old spelling or the new one."""
    if isinstance(merge, str):
        return merge.count(" ") == 1
    return isinstance(merge, list) and len(merge) == 2 and all(isinstance(side, str) for side in merge)


def _unknown(where: str, part: Any, inner: str, known: Sequence[str]) -> list[str]:
    found = [each.get("type") for each in _parts(part, inner)]
    return [f"{where}: expected one of {', '.join(known)}, found {shown(kind)}" for kind in found if kind not in known]


def _parts(part: Any, inner: str) -> Iterator[dict[str, Any]]:
    """It, and what it is made of."""
    if part is None:
        return
    if not isinstance(part, dict):
        yield {"type": shown(part)}
        return
    yield part | {"type": kind if isinstance(kind := part.get("type"), str) else shown(kind)}
    inside = part.get(inner) or []
    for each in inside if isinstance(inside, list) else [inside]:
        yield from _parts(each, inner)


def _bytes_of(document: dict[str, Any], added: Sequence[Added]) -> dict[int, bytes]:
    """What each id stands for."""
    beside = {token.id: token.content.encode("utf-8", "replace") for token in added}
    found = {}
    for token, number in document["model"]["vocab"].items():
        if number in beside:
            continue
        try:
            found[number] = to_bytes(token)
        except UnicodeEncodeError:
            raise ValueError(f"model.vocab: expected GPT-2's characters for bytes, found {shown(token)}") from None
    if (longest := max(map(len, found.values()), default=0)) > LONGEST_TOKEN:
        raise ValueError(f"model.vocab: expected tokens of at most {LONGEST_TOKEN:,} bytes, found {longest:,}")
    return found | beside


def _ends(special: Mapping[str, int], named: Mapping[str, str]) -> tuple[int, int]:
    """(what ends an answer, what stands between documents)."""
    between = next((special[token] for token in STARTS if token in special), None)
    stop = special.get(named.get("eos_token", ""), between)
    if stop is None:
        raise ValueError(
            f"no token ends a text: expected {SETTINGS_FILE} to name a special token as eos_token, found "
            f"{shown(named.get('eos_token'))}"
        )
    bos = special.get(named.get("bos_token", ""))
    return stop, between if between is not None else bos if bos is not None else stop


def _library(document: dict[str, Any], added: Sequence[Added]) -> Any:
    import tokenizers

    try:
        made = tokenizers.Tokenizer.from_str(json.dumps(document))
    except BaseException as error:  # a panic of compiled code is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ValueError(f"the `tokenizers` library can't read it: {shown(str(error), 200)}") from None
    if other := [token for token in added if made.token_to_id(token.content) != token.id]:
        found = made.token_to_id(other[0].content)
        raise ValueError(f"added_tokens: {shown(other[0].content)} has the id {other[0].id}, but {found} in the vocab")
    made.no_padding()
    made.no_truncation()
    made.encode_special_tokens = True
    return made


def _before(library: Any) -> list[int]:
    """What the library puts before a text; raises ``ValueError`` where it puts something behind one."""
    whole, text = (library.encode("a", add_special_tokens=special).ids for special in (True, False))
    before = whole[: len(whole) - len(text)]
    if before + text != whole:
        raise ValueError("post_processor: it puts tokens behind a text: this is not computed")
    return before  # type: ignore[no-any-return]


def _settings(directory: Path) -> tuple[dict[str, str], str | None]:
    """The tokens that the model's settings name, and its chat template."""
    try:
        fields = read_json(directory / SETTINGS_FILE)
    except FileNotFoundError:
        fields = {}
    except ValueError as error:
        raise ValueError(f"{SETTINGS_FILE}: {error}") from None
    fields = fields if isinstance(fields, dict) else {}
    named = {name: spelled for name in NAMED if (spelled := _spelled(fields.get(name)))}
    try:
        return named, read_bytes(directory / TEMPLATE_FILE, MB).decode("utf-8")
    except FileNotFoundError:
        return named, _template(fields.get("chat_template"))
    except ValueError as error:
        raise ValueError(f"{TEMPLATE_FILE}: {error}") from None


def _spelled(token: Any) -> str:
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else ""


def _template(given: Any) -> str | None:
    """The template, or of several with names the default one."""
    if isinstance(given, list):
        named = (each for each in given if isinstance(each, dict) and each.get("name") == "default")
        given = next(named, {}).get("template")
    return given if isinstance(given, str) and given else None


READ = read
