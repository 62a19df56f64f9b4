//! An evaluated HCL body to a job in the API's shape, as written: what the file does not say stays unset.

mod finish;
mod values;

use crate::object::Object;
use crate::schema::{Block, Field, JOB, Kind, MapForm};
use crate::shape;
use hcl::{Body, Diagnostic, Range, similar_name};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The blocks that a job file is made of, for [`hcl::Inputs::root_blocks`].
pub const ROOT_BLOCKS: [hcl::RootBlock; 1] = [hcl::RootBlock {
    kind: "job",
    labels: &["name"],
    count: hcl::Count::One,
    opaque: &FREE_BLOCKS,
    inside: || hcl::Inside::Body(&JOB),
}];

/// The blocks that the table leaves to their readers.
const FREE_BLOCKS: [&str; 2] = ["config", "policy"];

/// Reads a job file. The job is not canonicalised; its unset fields are null or empty.
///
/// The inputs must have [`ROOT_BLOCKS`].
pub fn parse_hcl(inputs: &hcl::Inputs) -> Result<Value, hcl::Diagnostics> {
    let mut evaluation = hcl::evaluate_partly(inputs);
    let Some(body) = &evaluation.body else { return Err(evaluation.diagnostics) };
    let mut decoder = Decoder::default();
    let job = decoder.file(body);
    evaluation.diagnostics.list.append(&mut decoder.problems);
    match job {
        Some(job) if !evaluation.diagnostics.has_errors() => Ok(Value::Object(job)),
        Some(_) | None => Err(evaluation.diagnostics),
    }
}

/// Fields of all blocks of a job. Some twenty thousand groups have as many, and take a second.
pub(crate) const FIELDS_MAX: usize = 2_000_000;

/// Problems that are told. Who reads so many mends the first ones and asks again.
const PROBLEMS_MAX: usize = 1000;

#[derive(Default)]
struct Decoder {
    problems: Vec<Diagnostic>,
    /// Fields of the blocks that were read.
    fields: usize,
}

/// What was read of a body: the fields of the API, and what exists in job files only.
struct Read {
    object: Object,
    extra: Vec<(&'static str, Value)>,
}

impl Read {
    fn take(&mut self, hcl: &str) -> Value {
        self.extra
            .iter_mut()
            .find(|(name, _)| *name == hcl)
            .map(|(_, value)| value.take())
            .unwrap_or_default()
    }
}

impl Decoder {
    fn report(&mut self, summary: impl Into<String>, detail: impl Into<String>, range: Range) {
        if !self.full() {
            self.problems.push(Diagnostic::error(summary, detail, range));
        }
    }

    fn full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// Reads the job of a file. That there is exactly one was seen to when the file was evaluated.
    fn file(&mut self, body: &Body) -> Option<Object> {
        let block = body.blocks_of("job").next()?;
        let label = block.labels.first().map(|(label, _)| label.as_str()).unwrap_or_default();
        Some(self.job(&block.body, label))
    }

    fn job(&mut self, body: &Body, label: &str) -> Object {
        let read = self.read(&JOB, body, None);
        finish::job(read, label)
    }

    /// Reads one body against the table.
    fn read(&mut self, block: &'static Block, body: &Body, label: Option<&str>) -> Read {
        let fields = block.alphabetical();
        self.fields += fields.len();
        if self.fields > FIELDS_MAX {
            if self.fields - fields.len() <= FIELDS_MAX {
                let detail =
                    format!("The blocks of a job may have {FIELDS_MAX} fields together; this one has more.");
                self.problems.push(Diagnostic::error("Job too large", detail, body.range.clone()));
            }
            return Read { object: Object::new(), extra: Vec::new() };
        }
        let mut values: Vec<Option<Value>> = vec![None; fields.len()];
        let mut extra: Vec<(&'static str, Value)> = Vec::new();
        let mut put = |field: &'static Field, value: Value| match fields
            .binary_search_by(|known| known.json.cmp(field.json))
        {
            Ok(index) => values[index] = Some(value),
            Err(_) => extra.push((field.hcl, value)),
        };
        self.refuse_unknown(block, body);
        if let (Some(field), Some(label)) = (block.label(), label) {
            put(field, label.into());
        }
        for attribute in &body.attributes {
            let Some(field) = block.hcl_field(&attribute.name) else { continue };
            let value = match field.kind {
                Kind::StringMap | Kind::StringListMap if !body.json && field.map_form == MapForm::Either => {
                    self.map_argument(field, attribute, body)
                }
                Kind::StringMap | Kind::StringListMap if !body.json && field.is_block() => continue,
                Kind::Block(_) | Kind::Blocks(_) | Kind::BlockMap(_) | Kind::Free => continue,
                Kind::StringMap | Kind::StringListMap => {
                    self.value(field, &attribute.value, &attribute.value_range)
                }
                _ if matches!(block.name, "Constraint" | "Affinity") => self.compared(field.kind, attribute),
                _ => self.value(field, &attribute.value, &attribute.value_range),
            };
            if let Some(value) = value {
                put(field, value);
            }
        }
        // Each kind where the first of it stands, so that a body is looked through for those kinds alone that it has.
        let mut read = Vec::new();
        for field in body.blocks.iter().filter_map(|inner| block.hcl_field(&inner.kind)) {
            // Where both forms of a map stand, that has been reported.
            let again = read.contains(&field.hcl) || body.attribute(field.hcl).is_some();
            if again || !field.is_block() {
                continue;
            }
            read.push(field.hcl);
            let found: Vec<_> = body.blocks_of(field.hcl).collect();
            if let Some(value) = self.nested(block, field, found) {
                put(field, value);
            }
        }
        Read { object: shape::assemble(block, values), extra }
    }

    /// Reads the blocks of one field.
    fn nested(
        &mut self,
        parent: &'static Block,
        field: &'static Field,
        found: Vec<&hcl::Block>,
    ) -> Option<Value> {
        let expected = labels(parent, field);
        let found: Vec<_> = found.into_iter().filter(|one| self.labels_fit(field, expected, one)).collect();
        if parent.name == "Task" && field.hcl == "scaling" {
            self.refuse_repeated_scaling(&found);
        }
        match field.kind {
            _ if found.is_empty() => None,
            Kind::Blocks(inner) => {
                let items = found.iter().map(|one| self.one(parent, field, inner, one));
                Some(items.collect::<Vec<_>>().into())
            }
            Kind::BlockMap(inner) => {
                let items = found.iter().map(|one| {
                    let label = one.labels.first().map(|(label, _)| label.clone()).unwrap_or_default();
                    (label, self.one(parent, field, inner, one))
                });
                Some(items.collect::<Map<_, _>>().into())
            }
            _ => {
                // Of several `vault` blocks of a group the last counts.
                let last_wins = parent.name == "TaskGroup" && field.hcl == "vault";
                let of_job = parent.name == "Job" && field.hcl == "vault";
                let first = if last_wins { found.last() } else { found.first() }?;
                if let Some(second) = found.get(1).filter(|_| !last_wins) {
                    let (name, place) = (field.hcl, &first.range);
                    let detail = if of_job {
                        format!(
                            "Only one block of type {name:?} is allowed. Previous definition was at {place}."
                        )
                    } else {
                        format!("Only one {name} block is allowed. Another was defined at {place}.")
                    };
                    self.report(format!("Duplicate {name} block"), detail, second.range.clone());
                    if !of_job {
                        return None;
                    }
                }
                match field.kind {
                    Kind::Block(inner) => Some(self.one(parent, field, inner, first)),
                    Kind::Free => {
                        let mut map = values::free(&first.body);
                        // An argument that is null is left out; further down a null stays.
                        map.retain(|_, value| !value.is_null());
                        Some(map.into())
                    }
                    _ => self.map(field.kind, &first.body),
                }
            }
        }
    }

    fn one(
        &mut self,
        parent: &'static Block,
        field: &'static Field,
        inner: &'static Block,
        found: &hcl::Block,
    ) -> Value {
        let label = found.labels.first();
        for field in inner.fields.iter().filter(|field| field.required) {
            if found.body.attribute(field.hcl).is_none() {
                self.missing(field.hcl, found);
            }
        }
        let read = self.read(inner, &found.body, label.map(|(label, _)| label.as_str()));
        let mut object = finish::block(inner, read);
        if parent.name == "Task" && field.hcl == "scaling" {
            self.task_scaling(&mut object, found);
        }
        if parent.name == "TaskGroup" && field.hcl == "scaling" {
            self.group_scaling(&object, found);
        }
        object.into()
    }

    /// Of what is missing, the place is where the block begins.
    fn missing(&mut self, name: &str, found: &hcl::Block) {
        let detail = format!("The argument {name:?} is required, but no definition was found.");
        let mut place = found.open_range.clone();
        if !found.body.json {
            place.end = place.start;
        }
        self.report("Missing required argument", detail, place);
    }

    fn group_scaling(&mut self, scaling: &Object, found: &hcl::Block) {
        if crate::object::is_null(scaling, "Max") {
            self.missing("max", found);
        }
        if let Some(attribute) = found.body.attribute("type")
            && let kind = crate::object::text(scaling, "Type")
            && !matches!(kind, "" | "horizontal")
        {
            let detail = format!("task group scaling policy had invalid type: {kind:?}");
            self.report("Invalid group scaling type", detail, attribute.range.clone());
        }
    }

    /// A second policy for the same resource of a task.
    fn refuse_repeated_scaling(&mut self, found: &[&hcl::Block]) {
        let name = |one: &hcl::Block| one.labels.first().map(|(label, _)| label.to_lowercase());
        for (index, second) in found.iter().enumerate() {
            let Some(label) = name(second).filter(|label| matches!(label.as_str(), "cpu" | "mem")) else {
                continue;
            };
            if let Some(first) = found[..index].iter().find(|one| name(one).as_ref() == Some(&label)) {
                let detail = format!(
                    "Only one scaling {label} block is allowed. Another was defined at {}.",
                    first.range
                );
                self.report(format!("Duplicate scaling {label:?} block"), detail, second.range.clone());
            }
        }
    }

    fn task_scaling(&mut self, scaling: &mut Object, found: &hcl::Block) {
        let Some((label, range)) = found.labels.first() else { return };
        let kind = match label.to_lowercase().as_str() {
            "cpu" => "vertical_cpu",
            "mem" => "vertical_mem",
            _ => {
                let detail = r#"scaling policy name must be "cpu" or "mem""#;
                return self.report("Invalid scaling policy name", detail, range.clone());
            }
        };
        match crate::object::text(scaling, "Type") {
            "" => crate::object::set(scaling, "Type", kind),
            own if own != kind => {
                // The two are told in this order there, the block's own first.
                let detail = format!("Invalid policy type, expected {own:?} but found {kind:?}");
                self.report("Invalid scaling policy type", detail, found.range.clone());
            }
            _ => {}
        }
    }

    fn labels_fit(&mut self, field: &Field, expected: Labels, found: &hcl::Block) -> bool {
        let name = field.hcl;
        if let Some(dynamic) = &found.dynamic {
            return self.generated_labels_fit(name, expected, dynamic, found);
        }
        match (expected, found.labels.as_slice()) {
            (Labels::None, []) | (Labels::One(_), [_]) => true,
            (Labels::None, [(_, range), ..]) => {
                let detail = format!("No labels are expected for {name} blocks.");
                self.report(format!("Extraneous label for {name}"), detail, range.clone());
                false
            }
            (Labels::One(label), []) => {
                let detail = format!("All {name} blocks must have 1 labels ({label}).");
                self.report(format!("Missing {label} for {name}"), detail, found.open_range.clone());
                false
            }
            (Labels::One(label), [_, (_, range), ..]) => {
                let detail = format!("Only 1 labels ({label}) are expected for {name} blocks.");
                self.report(format!("Extraneous label for {name}"), detail, range.clone());
                false
            }
        }
    }

    /// The same for a block that a `dynamic` block generated, whose labels are one of that block's arguments. All that
    /// it generated have the same mistake, which is told once.
    fn generated_labels_fit(
        &mut self,
        name: &str,
        expected: Labels,
        dynamic: &hcl::Dynamic,
        found: &hcl::Block,
    ) -> bool {
        let (summary, detail, place) = match (expected, &dynamic.labels, found.labels.as_slice()) {
            (Labels::None, None, _) | (Labels::One(_), Some(_), [_]) => return true,
            (Labels::None, Some((name, _)), _) => {
                let detail = "An argument named \"labels\" is not expected here.".to_owned();
                ("Unsupported argument", detail, name.clone())
            }
            (Labels::One(_), None, _) => {
                let detail = "The argument \"labels\" is required, but no definition was found.".to_owned();
                let mut place = dynamic.open_range.clone();
                if !found.body.json {
                    place.end = place.start;
                }
                ("Missing required argument", detail, place)
            }
            (Labels::One(_), Some((_, value)), []) => {
                let detail = format!("Blocks of type {name:?} require 1 label(s).");
                ("Insufficient dynamic block labels", detail, value.clone())
            }
            (Labels::One(_), Some(_), [_, (_, second), ..]) => {
                let detail = format!("Blocks of type {name:?} require 1 label(s).");
                ("Extraneous dynamic block label", detail, second.clone())
            }
        };
        let problem = Diagnostic::error(summary, detail, place);
        if !self.full() && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
        false
    }

    /// Reports what the table does not know, with the name that was probably meant.
    fn refuse_unknown(&mut self, block: &'static Block, body: &Body) {
        let (arguments, blocks) = (block.arguments(), block.blocks());
        let mut defined: Option<BTreeSet<&str>> = None;
        for attribute in &body.attributes {
            if self.full() {
                return;
            }
            let name = attribute.name.as_str();
            let field = block.hcl_field(name);
            // Maps may be written as arguments, which allows keys that are no names.
            let as_argument = |field: &Field| !field.is_block() || field.map_form == MapForm::Either;
            if field.is_some_and(as_argument) {
                continue;
            }
            if body.json {
                let others = arguments.iter().filter(|known| body.attribute(known).is_none());
                let known = similar_name(name, others.chain(blocks).copied());
                let hint = known.map(|known| format!(" Did you mean {known:?}?")).unwrap_or_default();
                let detail = format!("No argument or block type is named {name:?}.{hint}");
                self.report("Extraneous JSON object property", detail, attribute.name_range.clone());
                continue;
            }
            let defined = defined
                .get_or_insert_with(|| body.attributes.iter().map(|known| known.name.as_str()).collect());
            let others = arguments.iter().filter(|name| !defined.contains(**name)).copied();
            let hint = match similar_name(name, others) {
                Some(known) => format!(" Did you mean {known:?}?"),
                None if blocks.contains(&name) => {
                    format!(" Did you mean to define a block of type {name:?}?")
                }
                None => String::new(),
            };
            let detail = format!("An argument named {name:?} is not expected here.{hint}");
            self.report("Unsupported argument", detail, attribute.name_range.clone());
        }
        for inner in &body.blocks {
            if self.full() {
                return;
            }
            let name = inner.kind.as_str();
            if blocks.binary_search(&name).is_ok() {
                continue;
            }
            let hint = match similar_name(name, blocks.iter().copied()) {
                Some(known) => format!(" Did you mean {known:?}?"),
                None if arguments.contains(&name) => {
                    format!(
                        " Did you mean to define argument {name:?}? If so, use the equals sign to assign it a value."
                    )
                }
                None => String::new(),
            };
            let detail = format!("Blocks of type {name:?} are not expected here.{hint}");
            self.report("Unsupported block type", detail, inner.kind_range.clone());
        }
    }
}

/// How many labels a block has.
#[derive(Clone, Copy)]
enum Labels {
    None,
    One(&'static str),
}

fn labels(parent: &Block, field: &'static Field) -> Labels {
    match field.kind {
        Kind::Block(inner) | Kind::Blocks(inner) | Kind::BlockMap(inner) => match inner.label() {
            Some(label) => Labels::One(label.hcl),
            None if parent.name == "Task" && field.hcl == "scaling" => Labels::One("name"),
            None => Labels::None,
        },
        _ => Labels::None,
    }
}

/// What the JSON syntax has to know, since nothing in it tells arguments and blocks apart.
impl hcl::Schema for Block {
    fn has_argument(&self, name: &str) -> bool {
        self.hcl_field(name).is_some()
    }

    fn block(&self, name: &str) -> Option<hcl::Form> {
        let field = self.hcl_field(name)?;
        let inside = match field.kind {
            Kind::Block(inner) | Kind::Blocks(inner) | Kind::BlockMap(inner) => hcl::Inside::Body(inner),
            Kind::Free => hcl::Inside::Arguments,
            Kind::StringMap | Kind::StringListMap if field.map_form == MapForm::Block => {
                hcl::Inside::Arguments
            }
            _ => return None,
        };
        let label = match labels(self, field) {
            Labels::One(label) => Some(label),
            Labels::None => None,
        };
        Some(hcl::Form { label, inside })
    }
}
