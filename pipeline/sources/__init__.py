"""Where bytes come from: the web, a package index, a hub of models, this machine; and the cache between."""
