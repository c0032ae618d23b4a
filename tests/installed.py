"""A distribution of somebody else's that adds a member to a seam, as an installer would leave it."""

from pathlib import Path


def install(site: Path, seam: str, member: str, code: str, attribute: str = "MEMBER") -> None:
    """Into ``site``, a folder on ``sys.path``: a module of ``code`` whose ``attribute`` is ``member`` of ``seam``."""
    module = f"theirs_{member.replace('-', '_')}"
    facts = site / f"{module}-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / f"{module}.py").write_text(code)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{seam}]\n{member} = {module}:{attribute}\n")
