"""When stages run: the one home of DVC, which decides what is stale, and of Prefect, which shows and retries."""
