"""The SSR-Encoder method in plain torch: a reference picture and a query in, a branch in every cross-attention out."""
