//! HTTP: routes, blocking queries, event stream.
