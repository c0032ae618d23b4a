"""Linear models and look-ups over words, and how near an answer is to the right one."""

from collections.abc import Sequence
from statistics import fmean


def tfidf_linear(train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str]) -> list[str]:
    """The labels that a linear support vector machine on TF-IDF of words and word pairs gives to ``test_texts``."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    classifier = LinearSVC(random_state=0).fit(vectorizer.fit_transform(train_texts), list(train_labels))
    return [str(label) for label in classifier.predict(vectorizer.transform(test_texts))]


def nearest_answers(
    train_prompts: Sequence[str], train_answers: Sequence[str], test_prompts: Sequence[str]
) -> list[str]:
    """For each test prompt the answer to the most similar training prompt; among equals, the first one's.

    Similar = cosine of TF-IDF of words and word pairs, where a word may be a single letter, a digit or a
    sign: "3 + 4" and "3 - 4" differ.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]")
    train = vectorizer.fit_transform(train_prompts)
    similarities = (train @ row.T for row in vectorizer.transform(test_prompts))
    # Rounded, so that equals are equal in spite of the order of summation.
    return [train_answers[int(similarity.toarray().ravel().round(12).argmax())] for similarity in similarities]


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Mean over the answers of chrF2 (Popović 2015: F-score of character 1- to 6-grams without spaces), 0 to 100."""
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    pairs = zip(hypotheses, references, strict=True)
    scores = [metric.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]
    return fmean(scores)
