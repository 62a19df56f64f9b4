//! The one table of the job specification.
//!
//! Every block and every argument is listed here once: how it is written in HCL, how it is called in the API's JSON, what
//! it holds, what is there when nobody set it, and what it is for. Decoding, normalising, defaults, the stored form, the
//! plan diff's field names and the reference documentation all walk this table; none of them lists fields again.

mod group;
mod job;
mod service;
mod task;

use std::sync::OnceLock;

pub(crate) use group::{EPHEMERAL_DISK, MIGRATE, RESCHEDULE, RESTART, UPDATE};
pub(crate) use job::MULTIREGION_STRATEGY;
pub use job::{CONSTRAINT, JOB};
pub(crate) use task::{IDENTITY, LOGS, RESOURCES};

/// One kind of block: a Go struct of the API and the HCL block that fills it.
#[derive(Debug)]
pub struct Block {
    /// The API's type name, as it appears in JSON type errors.
    pub name: &'static str,
    /// One line for the reference.
    pub doc: &'static str,
    /// In the order in which the API declares them, which is the order of `job run -output`.
    pub fields: &'static [Field],
    /// A stored object of this kind leaves out what is empty, instead of writing zero values.
    pub omit_empty: bool,
    lookup: OnceLock<Lookup>,
}

/// The fields of a block by their names.
#[derive(Debug)]
struct Lookup {
    /// Those that JSON knows, by JSON name.
    alphabetical: Vec<&'static Field>,
    /// Those that job files know, by the name there.
    hcl: Vec<&'static Field>,
    /// Names of arguments and of blocks in job files.
    arguments: Vec<&'static str>,
    blocks: Vec<&'static str>,
    label: Option<&'static Field>,
}

impl Lookup {
    fn new(fields: &'static [Field]) -> Self {
        let mut alphabetical: Vec<_> = fields.iter().filter(|field| !field.json.is_empty()).collect();
        alphabetical.sort_by_key(|field| field.json);
        let written = fields.iter().filter(|field| !field.hcl.is_empty());
        let mut hcl: Vec<_> = written.clone().filter(|field| !field.label).collect();
        hcl.sort_by_key(|field| field.hcl);
        let named = |block: bool| {
            let fields = hcl.iter().filter(move |field| field.is_block() == block);
            fields.map(|field| field.hcl).collect()
        };
        Self {
            arguments: named(false),
            blocks: named(true),
            label: fields.iter().find(|field| field.label),
            alphabetical,
            hcl,
        }
    }
}

/// One argument or nested block.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name in a job file; empty when only the API or the server sets it.
    pub hcl: &'static str,
    /// The name in JSON; empty for what exists in job files only and is folded into other fields.
    pub json: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Unset is `null` (a pointer in the API) and not the zero value.
    pub pointer: bool,
    /// Unset stays `null` in the stored job, too.
    pub nullable: bool,
    /// What [`crate::canonicalise`] fills in.
    pub default: Fallback,
    /// In which form of a job it exists.
    pub form: Form,
    /// The block's label in HCL.
    pub label: bool,
    /// Left out of the API form while it is null.
    pub omit_null: bool,
    /// Which forms a map has in a job file.
    pub map_form: MapForm,
    /// How large a whole number may be.
    pub width: Width,
    /// A block without it is refused.
    pub required: bool,
    /// How a plan shows it.
    pub diff: Diff,
    /// One line for the reference.
    pub doc: &'static str,
}

/// How the diff of a plan shows a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Diff {
    /// Under its JSON name.
    Shown,
    /// Under this name.
    As(&'static str),
    /// Under its JSON name, and only where it is present.
    WhenPresent,
    /// Not at all: it is not the user's, or has no effect.
    Hidden,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text.
    String,
    /// A signed whole number.
    Int,
    /// A whole number that is not negative.
    Uint,
    /// True or false.
    Bool,
    /// Nanoseconds in JSON; text such as `10s` in HCL.
    Duration,
    /// Bytes, base64 in JSON.
    Bytes,
    /// A list of texts.
    Strings,
    /// A list of whole numbers.
    Ints,
    /// Names and texts.
    StringMap,
    /// Names and lists of texts.
    StringListMap,
    /// Whatever the reader of it (a driver, a proxy) understands.
    Free,
    /// At most one nested block.
    Block(&'static Block),
    /// Any number of nested blocks, labelled when the nested block has a label.
    Blocks(&'static Block),
    /// Labelled blocks, keyed by their label in JSON.
    BlockMap(&'static Block),
}

/// How large a whole number may be: the API's types.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Width {
    /// 64 bits, with or without a sign as the kind says.
    Whole,
    /// 64 bits with a sign, and called so.
    Int64,
    /// 8 bits with a sign.
    Int8,
    /// 8 bits without a sign.
    Uint8,
    /// 16 bits without a sign.
    Uint16,
    /// 32 bits without a sign.
    Uint32,
}

impl Width {
    /// The smallest and the largest number, and the type's name in the API.
    pub(crate) fn bounds(self, signed: bool) -> (i64, u64, &'static str) {
        match self {
            Width::Whole if signed => (i64::MIN, i64::MAX as u64, "int"),
            Width::Whole => (0, u64::MAX, "uint64"),
            Width::Int64 => (i64::MIN, i64::MAX as u64, "int64"),
            Width::Int8 => (i8::MIN.into(), i8::MAX as u64, "int8"),
            Width::Uint8 => (0, u8::MAX.into(), "uint8"),
            Width::Uint16 => (0, u16::MAX.into(), "uint16"),
            Width::Uint32 => (0, u32::MAX.into(), "uint32"),
        }
    }

    /// Whether a number of JSON is one of these.
    pub(crate) fn holds(self, signed: bool, number: &serde_json::Number) -> bool {
        let (least, most, _) = self.bounds(signed);
        match (number.as_i64(), number.as_u64()) {
            (Some(negative), None) => negative >= least,
            (_, Some(positive)) => positive <= most,
            (None, None) => false,
        }
    }
}

/// What stands for an unset field after canonicalisation.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// Nothing.
    None,
    /// This number (nanoseconds for durations).
    Int(i64),
    /// This truth.
    Bool(bool),
    /// This text.
    String(&'static str),
    /// An empty list or map.
    Empty,
    /// It depends on other fields; the text says how.
    Computed(&'static str),
}

/// How a map of texts is written in a job file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MapForm {
    /// `meta { a = "b" }`.
    Block,
    /// `args = { a = "b" }`.
    Argument,
    /// Either way, but not both.
    Either,
}

/// In which form of a job a field exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// In what is submitted and in what is stored.
    Both,
    /// Only in what is submitted.
    Submitted,
    /// Only in what is stored.
    Stored,
}

impl Block {
    const fn new(name: &'static str, doc: &'static str, fields: &'static [Field]) -> Self {
        Self { name, doc, fields, omit_empty: false, lookup: OnceLock::new() }
    }

    const fn omitting_empty(mut self) -> Self {
        self.omit_empty = true;
        self
    }

    /// The fields that JSON knows, by JSON name.
    pub fn alphabetical(&'static self) -> &'static [&'static Field] {
        &self.lookup().alphabetical
    }

    fn lookup(&self) -> &Lookup {
        self.lookup.get_or_init(|| Lookup::new(self.fields))
    }

    /// Names of its arguments in job files, sorted.
    pub(crate) fn arguments(&self) -> &[&'static str] {
        &self.lookup().arguments
    }

    /// Names of its blocks in job files, sorted.
    pub(crate) fn blocks(&self) -> &[&'static str] {
        &self.lookup().blocks
    }

    /// The field of this JSON name, in any case, as Go's decoder finds it.
    pub fn json_field(&self, name: &str) -> Option<&'static Field> {
        let exact = self.fields.iter().find(|field| field.json == name && !name.is_empty());
        exact.or_else(|| {
            self.fields.iter().find(|field| !field.json.is_empty() && field.json.eq_ignore_ascii_case(name))
        })
    }

    /// The argument or block of this name in a job file.
    pub fn hcl_field(&self, name: &str) -> Option<&'static Field> {
        let fields = &self.lookup().hcl;
        fields.binary_search_by(|field| field.hcl.cmp(name)).ok().map(|index| fields[index])
    }

    /// The field that takes the block's label.
    pub fn label(&self) -> Option<&'static Field> {
        self.lookup().label
    }
}

impl Field {
    const fn new(hcl: &'static str, json: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            hcl,
            json,
            kind,
            pointer: false,
            nullable: false,
            default: Fallback::None,
            form: Form::Both,
            label: false,
            omit_null: false,
            map_form: MapForm::Block,
            width: Width::Whole,
            required: false,
            diff: Diff::Shown,
            doc,
        }
    }

    const fn pointer(mut self) -> Self {
        self.pointer = true;
        self
    }

    const fn nullable(mut self) -> Self {
        self.pointer = true;
        self.nullable = true;
        self
    }

    const fn int(mut self, value: i64) -> Self {
        self.default = Fallback::Int(value);
        self
    }

    const fn seconds(self, value: i64) -> Self {
        self.int(value * 1_000_000_000)
    }

    const fn bool(mut self, value: bool) -> Self {
        self.default = Fallback::Bool(value);
        self
    }

    const fn text(mut self, value: &'static str) -> Self {
        self.default = Fallback::String(value);
        self
    }

    const fn empty(mut self) -> Self {
        self.default = Fallback::Empty;
        self
    }

    const fn computed(mut self, how: &'static str) -> Self {
        self.default = Fallback::Computed(how);
        self
    }

    const fn submitted(mut self) -> Self {
        self.form = Form::Submitted;
        self
    }

    const fn stored(mut self) -> Self {
        self.form = Form::Stored;
        self
    }

    const fn label(mut self) -> Self {
        self.label = true;
        self
    }

    const fn width(mut self, width: Width) -> Self {
        self.width = width;
        self
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn omit_null(mut self) -> Self {
        self.omit_null = true;
        self
    }

    const fn argument(mut self) -> Self {
        self.map_form = MapForm::Argument;
        self
    }

    const fn block_or_argument(mut self) -> Self {
        self.map_form = MapForm::Either;
        self
    }

    const fn shown_as(mut self, name: &'static str) -> Self {
        self.diff = Diff::As(name);
        self
    }

    const fn shown_when_present(mut self) -> Self {
        self.diff = Diff::WhenPresent;
        self
    }

    const fn hidden(mut self) -> Self {
        self.diff = Diff::Hidden;
        self
    }

    /// The name in a plan's diff, unless it is not shown there.
    pub fn diff_name(&self) -> Option<&'static str> {
        match self.diff {
            Diff::Shown | Diff::WhenPresent => Some(self.json).filter(|name| !name.is_empty()),
            Diff::As(name) => Some(name),
            Diff::Hidden => None,
        }
    }

    /// Whether this may be written as a block in a job file.
    pub fn is_block(&self) -> bool {
        match self.kind {
            Kind::Block(_) | Kind::Blocks(_) | Kind::BlockMap(_) | Kind::Free => true,
            Kind::StringMap | Kind::StringListMap => self.map_form != MapForm::Argument,
            _ => false,
        }
    }
}

/// Every block of the table with the dotted name of one place where it is used, parents first.
pub fn blocks() -> Vec<(String, &'static Block)> {
    fn visit(path: String, block: &'static Block, into: &mut Vec<(String, &'static Block)>) {
        if into.iter().any(|(_, known)| std::ptr::eq(*known, block)) {
            return;
        }
        into.push((path.clone(), block));
        for field in block.fields.iter().filter(|field| !field.hcl.is_empty()) {
            if let Kind::Block(inner) | Kind::Blocks(inner) | Kind::BlockMap(inner) = field.kind {
                visit(format!("{path}.{}", field.hcl), inner, into);
            }
        }
    }
    let mut all = Vec::new();
    visit("job".into(), &JOB, &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_fields_of_a_block_have_one_name() {
        for (path, block) in blocks() {
            let names: Vec<_> = block.lookup().hcl.iter().map(|field| field.hcl).collect();
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{path}: {names:?}");
        }
    }
}
