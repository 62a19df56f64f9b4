//! The JSON shapes that users see.
