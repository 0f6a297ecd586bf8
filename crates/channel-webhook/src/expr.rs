//! Expressions: CEL, read and checked once, evaluated within a budget.
//!
//! The `cel` crate parses. What it parsed is checked and evaluated here over JSON values, because requests come
//! from outside: whatever a request holds, an expression costs no more than its budget, ids that do not fit a
//! double are never rounded, and what is not there is told apart from what is wrong.

mod check;
mod eval;

use regex::Regex;
use serde_json::Value;

pub(crate) use eval::{Eval, Trouble, encode_uri, plain};

/// Longest expression, in bytes.
const LENGTH_MAX: usize = 2000;
/// Most brackets and conditional operators within each other.
const DEPTH_MAX: usize = 24;
/// Most signs of operators and brackets; what is evaluated nests no deeper.
const SIGNS_MAX: usize = 256;
/// Largest compiled pattern of `matches`, in bytes.
const PATTERN_MAX: usize = 256 * 1024;

/// What a part of an expression can be, as far as it is known before a request is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// Anything: known only when it is there.
    Any,
    /// True or false.
    Bool,
    /// A number.
    Number,
    /// A text.
    Text,
    /// A list.
    List,
    /// A map from text.
    Map,
    /// Nothing.
    Null,
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Any => "a value",
            Self::Bool => "a yes or no",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Null => "null",
        })
    }
}

impl Type {
    fn may_be(self, wanted: Self) -> bool {
        self == wanted || self == Self::Any
    }

    fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }
}

/// The variables that there are somewhere.
pub(crate) type Variables = &'static [(&'static str, Type)];

/// An expression that can be evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Expr(Node);

#[derive(Debug, Clone)]
enum Node {
    Const(Value),
    /// A variable, by its place in [`Variables`].
    Variable(usize),
    /// A name that a macro gave, by how many are around it.
    Local(usize),
    Field(Box<Node>, String),
    Has(Box<Node>, String),
    Index(Box<Node>, Box<Node>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// `&&` when the flag is false, `||` when it is true: the value that decides.
    Junction(bool, Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
    Matches(Box<Node>, Regex),
    Walk(Walk, Box<Node>, Option<Box<Node>>, Box<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equals,
    Differs,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
    In,
}

/// What goes over a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

/// What can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    String,
    Int,
    Double,
    Bool,
    Lower,
    Upper,
    Trim,
    Replace,
    Split,
    Join,
    Substring,
    First,
    Sha256,
    Time,
    Json,
    ParseJson,
    EncodeUri,
    Without,
}

impl Expr {
    /// Reads an expression that sees these variables, and within it these further names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn read(text: &str, variables: Variables, locals: &[&str]) -> Result<(Self, Type), Vec<String>> {
        check::read(text, variables, locals)
    }
}
