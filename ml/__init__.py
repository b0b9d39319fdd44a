"""The models: data, training, evaluation and prediction. Knows nothing of the web."""
