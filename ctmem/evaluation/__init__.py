"""How good a prediction is: metrics, tables, figures."""
