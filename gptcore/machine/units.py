"""Amounts in words, as reports and messages print them.  Units are decimal: 1 MB is 10⁶ bytes."""


def in_bytes(n: float) -> str:
    return f"{n / 1e9:,.1f} GB" if n >= 9.95e9 else f"{n / 1e6:,.0f} MB" if n >= 9.95e6 else f"{n / 1e6:.1f} MB"


def in_flops(n: float) -> str:
    return f"{n / 1e9:,.0f} GFLOP/s" if n >= 9.5e9 else f"{n / 1e9:.1f} GFLOP/s"


def in_rate(n: float) -> str:
    return f"{n:,.0f} tokens/s" if n >= 99.5 else f"{n:.1f} tokens/s"


def in_seconds(n: float) -> str:
    """Seconds up to two minutes, then minutes up to two hours, hours up to two days, days."""
    if n < 1:
        return f"{n * 1e3:.3g} ms"
    for unit, size, limit in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if n < limit:
            return f"{n / size:.1f} {unit}"
    return f"{n / 86_400:,.1f} days"
