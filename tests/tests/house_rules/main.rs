//! The rules of the house, held against the checkout: layers, outside things, sizes, words, dependencies.
//!
//! A rule that stands only in a document is broken within a month. Each of these says what to do when it fails.

mod dependencies;
mod layers;
mod shape;
mod words;
