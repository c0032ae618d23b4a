"""The page and the last words of a run, made from what the stages wrote into ``data/views``.

The report knows kinds of blocks (`pipeline.store.view`), no stage and no metric: a stage that writes a view is
on the page, under the title and with the numbers that it gives itself.  ``page.render`` writes the page,
``summary.summary`` the words for a terminal.
"""
