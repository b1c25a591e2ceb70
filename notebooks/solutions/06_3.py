# Along columns the middle hears columns 0–6 whole, and 0–7 of its own. The farthest of these along the rows is the last
# of column 6, in row 14: it has heard rows 0–13 whole, and 7 px of its own row. No other reaches beyond it.
predicted = 14 * 15 + 7
