"""words.py: how running text is split into words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner.formats import read
from ner.words import pre_split, tokenize

TOKENIZED = [  # words separated by one space
    ("Mr. Annan left.", "Mr. Annan left ."),
    ("He left. She came.", "He left . She came ."),
    ("U.S.-led, anti-U.S. talks in the U.S.", "U.S.-led , anti-U.S. talks in the U.S."),
    ("Iraq's soldiers' wives didn't, can't, won't.", "Iraq 's soldiers ' wives did n't , ca n't , wo n't ."),
    ("I'm sure we'll say they've, you're, he'd", "I 'm sure we 'll say they 've , you 're , he 'd"),
    ("the ’90s: Korea’s don’t", "the ’90s : Korea ’s do n’t"),
    ("You cannot. Shi'ite O'Connor", "You can not . Shi'ite O'Connor"),
    ('"Yes," he said (twice).', '" Yes , " he said ( twice ) .'),
    ("$3.5 million, 1,000 or 50% at 3:34:33.2", "$ 3.5 million , 1,000 or 50 % at 3:34:33.2"),
    ("49-year-old, HIV/AIDS -- AT&T...", "49-year-old , HIV / AIDS -- AT&T ..."),
    ("George W. Bush and J. K. Rowling", "George W. Bush and J. K. Rowling"),
    ("In World War I. Then came World War II.", "In World War I . Then came World War II ."),
    ("at 8 a.m. in D.C., on Nov. 9", "at 8 a.m. in D.C. , on Nov. 9"),
    ("Peters Co. said: No. 5? No.", "Peters Co. said : No. 5 ? No ."),
    ("of Acme Corp.", "of Acme Corp ."),
    ("see https://a.org/b?c=d. Mail me@a.org, @you", "see https://a.org/b?c=d . Mail me@a.org , @you"),
    ("東京です", "東 京 です"),
    ("हिन्दी cafe\u0301 naïve", "हिन्दी cafe\u0301 naïve"),
    ("snake_case 24th 1990s", "snake_case 24th 1990s"),
    ("❤️😀", "❤️ 😀"),
    (" \t\n", ""),
]


@pytest.mark.parametrize("text, words", TOKENIZED)
def test_tokenize(text, words):
    assert " ".join(word for word, _, _ in tokenize(text)) == words


tricky = st.text(st.sampled_from("aBn't.'’-,&@:/ $U.S.5東\u0301\ufe0f😀\x85\ud800\0_\n")) | st.text()


@settings(deadline=None, max_examples=150)
@given(tricky, st.sampled_from([tokenize, pre_split]))
def test_every_character_is_in_one_word(text, function):
    found = function(text)
    reached = 0
    for word, start, end in found:
        assert text[start:end] == word and word and not any(c.isspace() for c in word)
        assert text[reached:start].strip() == ""
        reached = end
    assert text[reached:].strip() == ""
    if function is pre_split:
        assert [word for word, _, _ in found] == text.split()


def test_gmb_splits_into_its_own_words(gmb):
    same = sum([word for word, _, _ in tokenize(" ".join(s.words))] == s.words for s in read(gmb)[:5000])
    assert same > 0.99 * 5000
