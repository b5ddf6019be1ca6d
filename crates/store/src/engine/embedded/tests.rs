//! What a loss of power and other damage leaves, and what is made of it.
