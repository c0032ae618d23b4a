"""How the text is cut into windows."""

from dataclasses import dataclass

from gptcore.ranges import Checked, Context, relation


@dataclass(frozen=True)
class WindowsConfig(Checked):
    context_length: Context
    """Tokens of a window; also the model's context."""
    stride: Context
    """Tokens from the start of one window to the next; below context_length they overlap."""

    @relation("stride", "context_length")
    def _covers_all_text(self) -> str | None:
        if self.stride <= self.context_length:
            return None
        return f"stride = {self.stride}: above context_length = {self.context_length} it would skip text"
