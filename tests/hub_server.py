"""A Hugging Face hub on this machine: as much of its protocol as downloading a model takes.

    with HubServer({"openai-community/gpt2": directory}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)

Large files are listed with their sha256 and redirected to a "content network", small ones with their git
blob id, as the real hub does.  ``damage`` flips a bit of a file on its way, ``failures`` makes the next
answers 503, ``requests`` remembers what was asked.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_FILES = (".safetensors", ".bin")

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


def save_tiny_gpt2(directory: Path, seed: int = 0) -> None:
    """A model in GPT-2 layout: random weights, a byte-level vocabulary of its own with end-of-text last.

    Beside it lies what a hub holds too and nobody should fetch: a pickle and a page.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = _save_vocabulary(directory)
    end_of_text = vocabulary - 1
    shape: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 64, "vocab_size": vocabulary}
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=end_of_text, eos_token_id=end_of_text))
    model.save_pretrained(directory)
    (directory / "pytorch_model.bin").write_bytes(b"not to be fetched")
    (directory / "README.md").write_text("a tiny model\n", encoding="utf-8")


def _save_vocabulary(directory: Path) -> int:
    """Write vocab.json and merges.txt as GPT-2 has them: 256 bytes, merges, end-of-text; return how many."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(["the quick brown fox jumps over the lazy dog and the dog jumps over the fox"] * 9, trainer)
    bpe.model.save(str(directory))
    ids = bpe.get_vocab() | {"<|endoftext|>": bpe.get_vocab_size()}
    (directory / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    return len(ids)


class HubServer:
    """Serves model directories by repository name; each repository has one commit, which is its ``main``."""

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        self.repositories = {
            name: {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}
            for name, directory in repositories.items()
        }
        self.requests: list[str] = []
        self.failures = 0
        self._damaged: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def commit(self, repository: str) -> str:
        """The commit id: 40 hexadecimal digits, a function of the content."""
        listing = {name: _blob_id(content) for name, content in self.repositories[repository].items()}
        return hashlib.sha1(json.dumps(listing, sort_keys=True).encode()).hexdigest()

    def damage(self, name: str) -> None:
        """From now on one bit of each file of this name is wrong, at its right length."""
        self._damaged.add(name)

    def repair(self) -> None:
        self._damaged.clear()

    def answer(self, path: str) -> Answer:
        """What a GET of ``path`` gets."""
        if self.failures:
            self.failures -= 1
            return 503, {}, b"busy"
        routes: dict[str, Callable[..., Answer]] = {
            r"/api/models/([^/]+/[^/]+)/revision/(.+)": self._info,
            r"/api/models/([^/]+/[^/]+)/tree/([^/]+)": self._tree,
            r"/content/([^/]+/[^/]+)/([^/]+)": self._content,
            r"/([^/]+/[^/]+)/resolve/([^/]+)/([^/]+)": self._resolve,
        }
        for pattern, route in routes.items():
            if match := re.fullmatch(pattern, path):
                if match[1] not in self.repositories:
                    return 404, {"X-Error-Code": "RepoNotFound"}, b"no such repository"
                return route(*match.groups())
        return 404, {}, b"no such page"

    def _info(self, repository: str, revision: str) -> Answer:
        if revision not in ("main", self.commit(repository)):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"no such revision"
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": _blob_id(content)} | _large(name, content, "sha256")
            for name, content in self.repositories[repository].items()
        ]
        return _json({"id": repository, "sha": self.commit(repository), "siblings": siblings, "tags": []})

    def _tree(self, repository: str, revision: str) -> Answer:
        return _json(
            [
                {"type": "file", "path": name, "size": len(content), "oid": _blob_id(content)}
                | _large(name, content, "oid")
                for name, content in self.repositories[repository].items()
            ]
        )

    def _resolve(self, repository: str, revision: str, name: str) -> Answer:
        if name not in self.repositories[repository]:
            return 404, {"X-Error-Code": "EntryNotFound"}, b"no such file"
        headers = {"Location": f"{self.endpoint}/content/{repository}/{name}"} | self._facts(repository, name)
        return (302, headers, b"") if name.endswith(LARGE_FILES) else self._content(repository, name)

    def _content(self, repository: str, name: str) -> Answer:
        return 200, self._facts(repository, name), self._sent(name, self.repositories[repository][name])

    def _facts(self, repository: str, name: str) -> dict[str, str]:
        content = self.repositories[repository][name]
        large = {"X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        facts = {"X-Repo-Commit": self.commit(repository), "ETag": f'"{_blob_id(content)}"'}
        return facts | large if name.endswith(LARGE_FILES) else facts

    def _sent(self, name: str, content: bytes) -> bytes:
        if name not in self._damaged:
            return content
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _large(name: str, content: bytes, hash_key: str) -> dict[str, Any]:
    if not name.endswith(LARGE_FILES):
        return {}
    return {"lfs": {hash_key: hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}


def _json(value: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(with_body=True)

        def do_HEAD(self) -> None:
            self._reply(with_body=False)

        def _reply(self, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            status, headers, body = hub.answer(path)
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if start and status == 200:
                headers["Content-Range"] = f"bytes {start[1]}-{len(body) - 1}/{len(body)}"
                status, body = 206, body[int(start[1]) :]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
