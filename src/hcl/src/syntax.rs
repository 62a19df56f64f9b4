//! The syntax tree.

use crate::range::{Position, Span};
use crate::value::Value;

/// An expression and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub span: Span,
    pub kind: ExprKind,
}

#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    Literal(Value),
    /// Parts that make a text together.
    Template(Vec<Expr>),
    /// `"${x}"`: the value itself, whatever its type.
    Wrap(Box<Expr>),
    /// The rounds of a `%{ for }`, joined.
    Join(Box<Expr>),
    /// A name and what is taken from it without computing anything.
    /// `text` is how it is written.
    Traversal {
        root: String,
        steps: Vec<Step>,
        text: String,
    },
    /// The same from the value of an expression.
    Relative {
        source: Box<Expr>,
        steps: Vec<Step>,
    },
    Index {
        source: Box<Expr>,
        key: Box<Expr>,
        bracket: Span,
    },
    Splat {
        source: Box<Expr>,
        each: Box<Expr>,
        /// The star with its dot or brackets.
        marker: Span,
    },
    /// The item that a splat is at.
    SplatItem,
    Call(Box<Call>),
    Conditional(Box<Conditional>),
    Binary {
        operator: Operator,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Negate(Box<Expr>),
    Not(Box<Expr>),
    Parens(Box<Expr>),
    Tuple(Vec<Expr>),
    Object(Vec<(Key, Expr)>),
    For(Box<ForExpr>),
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub span: Span,
    pub kind: StepKind,
}

#[derive(Clone, Debug)]
pub(crate) enum StepKind {
    Attribute(String),
    /// A constant: text, number, `true`, `false` or `null`.
    Index(Value),
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub name: String,
    pub name_span: Span,
    /// Name and opening parenthesis.
    pub open: Span,
    pub close: Span,
    pub arguments: Vec<Expr>,
    /// Whether the last argument is a sequence of arguments.
    pub expand: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Conditional {
    pub condition: Expr,
    pub yes: Expr,
    pub no: Expr,
}

#[derive(Clone, Debug)]
pub(crate) enum Key {
    /// A bare name.
    Name(String),
    Computed(Expr),
    /// `a.b`, which may be meant as a name or as a value, and is therefore refused when it is evaluated.
    Ambiguous(Span),
}

#[derive(Clone, Debug)]
pub(crate) struct ForExpr {
    pub key_name: Option<String>,
    pub value_name: String,
    pub collection: Expr,
    /// Of an object.
    pub key: Option<Expr>,
    pub value: Expr,
    pub condition: Option<Expr>,
    pub group: bool,
    /// The opening bracket, or the whole `%{ for ... }`.
    pub open: Span,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Expr {
    pub fn new(span: Span, kind: ExprKind) -> Expr {
        Expr { span, kind }
    }

    /// The part of the expression that messages about its value point at: short, and where it begins.
    pub fn start(&self) -> Span {
        let first_of = |start: Position| {
            let mut end = start;
            end.column += 1;
            end.byte += 1;
            Span { start, end }
        };
        let first_character = || first_of(self.span.start);
        match &self.kind {
            ExprKind::Template(parts) => parts.first().map_or(self.span, Expr::start),
            ExprKind::Tuple(_) | ExprKind::Object(_) => first_character(),
            ExprKind::For(rounds) => rounds.open,
            ExprKind::Negate(_) | ExprKind::Not(_) => first_character(),
            ExprKind::Parens(inner) | ExprKind::Join(inner) => inner.start(),
            ExprKind::Call(call) => call.open,
            ExprKind::Conditional(c) => c.condition.start(),
            ExprKind::Binary { left, .. } => left.start(),
            ExprKind::Index { bracket, .. } => first_of(bracket.start),
            ExprKind::Splat { marker, .. } => *marker,
            ExprKind::Literal(_)
            | ExprKind::Wrap(_)
            | ExprKind::Relative { .. }
            | ExprKind::Traversal { .. }
            | ExprKind::SplatItem => self.span,
        }
    }
}

/// A file, or what stands between the braces of a block.
#[derive(Clone, Debug)]
pub(crate) struct BodySyntax {
    pub items: Vec<Item>,
    pub span: Span,
    pub json: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Attribute(AttributeSyntax),
    Block(BlockSyntax),
}

#[derive(Clone, Debug)]
pub(crate) struct AttributeSyntax {
    pub name: String,
    pub name_span: Span,
    pub expr: Expr,
}

#[derive(Clone, Debug)]
pub(crate) struct BlockSyntax {
    pub kind: String,
    pub kind_span: Span,
    pub labels: Vec<(String, Span)>,
    /// Kind and labels; in JSON the opening bracket.
    pub head: Span,
    /// The opening brace; in JSON the closing one, which is where messages say that something is missing.
    pub open: Span,
    pub body: BodySyntax,
}

impl BodySyntax {
    pub fn attributes(&self) -> impl Iterator<Item = &AttributeSyntax> {
        self.items.iter().filter_map(|item| if let Item::Attribute(a) = item { Some(a) } else { None })
    }

    pub fn blocks(&self) -> impl Iterator<Item = &BlockSyntax> {
        self.items.iter().filter_map(|item| if let Item::Block(b) = item { Some(b) } else { None })
    }
}
