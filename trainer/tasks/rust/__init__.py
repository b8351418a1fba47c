"""The task `rust`: small functions, written by the model, judged by rustc and their tests."""
