//! HCL2 text, in native or JSON syntax, to an evaluated body, with HashiCorp's semantics.
//!
//! The crate reads text, evaluates variables, locals, `dynamic` blocks and expressions, and says what is wrong with
//! them and where. It never touches files, time or chance by itself ([`Functions`] lends it what it needs), it knows
//! nothing of what the blocks mean, and no text makes it run for long, nest deeply or use much memory: limits on all
//! of them end in a [`Diagnostic`].
//!
//! Read [`Inputs`] first, then [`Body`], which [`evaluate`] makes of it. [`parse_plain`] reads files of constants,
//! [`format()`] lays out a file.

mod body;
mod convert;
mod diagnostics;
mod eval;
mod evaluate;
mod format;
mod functions;
mod json;
mod json_blocks;
mod json_reader;
mod json_syntax;
mod number;
mod parse;
mod range;
mod references;
mod scan;
mod syntax;
mod types;
mod value;
mod variables;

pub use body::{Attribute, Block, Body, Dynamic, Places};
pub use convert::ConvertError;
pub use diagnostics::{Diagnostic, Diagnostics, Severity, Stage, similar_name};
pub use evaluate::{
    Count, Evaluation, Inputs, RootBlock, SOURCE_BYTES_MAX, evaluate, evaluate_partly, parse_plain,
};
pub use format::format;
pub use functions::{FILE_BYTES_MAX, Files, Functions, Random};
pub use json_blocks::{Form, Inside, Schema};
pub use number::Number;
pub use range::{Position, Range, Sources};
pub use types::{Field, Type};
pub use value::{Members, Value};
