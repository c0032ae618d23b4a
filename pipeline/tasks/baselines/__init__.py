"""What a GPT has to beat: n-gram models, compressors, a linear classifier, the nearest answer.

A loss means little alone.  Each function here takes the same training and test data as the network and
says how far counting, repeating or a linear model gets on one core: n-gram models of 300,000 tokens take
0.2 s each, xz of a megabyte 1 s, the classifier of 5,500 documents 4 s.
"""
