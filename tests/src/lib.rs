//! End to end, recorded answers, transcripts, house rules.
