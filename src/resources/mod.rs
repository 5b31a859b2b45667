//! What is wanted: the kinds, decoding, validation and the sources.
