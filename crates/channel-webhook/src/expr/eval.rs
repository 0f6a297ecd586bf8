//! Evaluation, within a budget.

use std::borrow::Cow;
use std::cmp::Ordering;

use adapter::contract::Timestamp;
use serde_json::{Map, Number, Value};
use sha2::Digest;

use super::{Binary, Expr, Function, Node, Walk};
use crate::time;

/// Whole numbers beyond are not exact as a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// So many bytes that are made or gone through cost as much as one step.
const BYTES_PER_STEP: usize = 16;

/// Why an expression has no value. It names fields, never what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Something that it asks for is not there.
    Missing(String),
    /// What is there is of the wrong kind.
    Wrong(String),
    /// The budget is used up.
    Spent,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "{what} is not there"),
            Self::Wrong(what) => f.write_str(what),
            Self::Spent => f.write_str("costs more than is allowed"),
        }
    }
}

fn wrong<T>(what: &str) -> Result<T, Trouble> {
    Err(Trouble::Wrong(what.to_owned()))
}

type Outcome<'a> = Result<Cow<'a, Value>, Trouble>;

/// What expressions are evaluated in.
pub(crate) struct Eval<'a, 'f> {
    /// The variables, in the order of [`Variables`](super::Variables).
    pub(crate) variables: &'a [Cow<'a, Value>],
    /// The names that macros and lists give, the outermost first.
    pub(crate) locals: Vec<Cow<'a, Value>>,
    /// How many steps are left.
    pub(crate) budget: &'f mut u64,
}

impl<'a> Eval<'a, '_> {
    /// The value of an expression.
    pub(crate) fn value(&mut self, expr: &'a Expr) -> Outcome<'a> {
        self.node(&expr.0)
    }

    /// Whether a condition holds. One that asks for what is not there does not.
    ///
    /// # Errors
    /// Only when the budget is used up.
    pub(crate) fn holds(&mut self, expr: &'a Expr) -> Result<bool, Trouble> {
        match self.node(&expr.0) {
            Ok(value) => Ok(*value == Value::Bool(true)),
            Err(Trouble::Spent) => Err(Trouble::Spent),
            Err(_) => Ok(false),
        }
    }

    /// The value at a JSON pointer within another.
    pub(crate) fn pointer(&mut self, root: Cow<'a, Value>, pointer: &str) -> Outcome<'a> {
        self.pay(pointer.len())?;
        let found = match &root {
            Cow::Borrowed(root) => root.pointer(pointer).map(Cow::Borrowed),
            Cow::Owned(root) => root.pointer(pointer).cloned().map(Cow::Owned),
        };
        found.ok_or_else(|| Trouble::Missing(pointer.to_owned()))
    }

    /// Takes from the budget what so many bytes cost.
    ///
    /// # Errors
    /// When there is not so much left.
    pub(crate) fn pay(&mut self, bytes: usize) -> Result<(), Trouble> {
        let steps = u64::try_from(bytes / BYTES_PER_STEP + 1).unwrap_or(u64::MAX);
        let left = self.budget.checked_sub(steps);
        *self.budget = left.unwrap_or(0);
        left.map(|_| ()).ok_or(Trouble::Spent)
    }

    /// The value by itself; a copy is paid for.
    ///
    /// # Errors
    /// When the budget is used up.
    pub(crate) fn own(&mut self, value: Cow<'a, Value>) -> Result<Value, Trouble> {
        if let Cow::Borrowed(value) = &value {
            self.pay(weight(value))?;
        }
        Ok(value.into_owned())
    }

    /// The innermost local, or a variable.
    pub(crate) fn root(&mut self, variable: Option<usize>) -> Outcome<'a> {
        let found = match variable {
            Some(at) => self.variables.get(at),
            None => self.locals.last(),
        };
        let found = found.map(borrow_or_clone);
        found.ok_or_else(|| Trouble::Missing("what pointers point into".to_owned()))
    }

    fn node(&mut self, node: &'a Node) -> Outcome<'a> {
        self.pay(0)?;
        match node {
            Node::Const(value) => Ok(Cow::Borrowed(value)),
            Node::Variable(at) => {
                let found = self.variables.get(*at).map(borrow);
                found.ok_or_else(|| Trouble::Missing("a variable".to_owned()))
            }
            Node::Local(at) => {
                let cost = self
                    .locals
                    .get(*at)
                    .map_or(0, |local| if let Cow::Owned(local) = local { weight(local) } else { 0 });
                self.pay(cost)?;
                let found = self.locals.get(*at).map(borrow_or_clone);
                found.ok_or_else(|| Trouble::Missing("a variable".to_owned()))
            }
            Node::Field(of, name) => {
                let of = self.node(of)?;
                field(of, name)
            }
            Node::Has(of, name) => match self.node(of).and_then(|of| field(of, name)) {
                Err(Trouble::Spent) => Err(Trouble::Spent),
                found => Ok(yes(found.is_ok())),
            },
            Node::Index(of, at) => {
                let of = self.node(of)?;
                let at = self.node(at)?;
                match (&*of, &*at) {
                    (Value::Object(_), Value::String(name)) => field(of, name),
                    (Value::Array(_), Value::Number(n)) => {
                        let at = n.as_u64().and_then(|n| usize::try_from(n).ok());
                        element(of, at.ok_or_else(|| Trouble::Missing("an element".to_owned()))?)
                    }
                    _ => wrong("[] is applied to something that has no elements"),
                }
            }
            Node::List(elements) => {
                let mut list = Vec::with_capacity(elements.len());
                for element in elements {
                    let value = self.node(element)?;
                    list.push(self.own(value)?);
                }
                Ok(Cow::Owned(Value::Array(list)))
            }
            Node::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let key = text(self.node(key)?)?.into_owned();
                    let value = self.node(value)?;
                    map.insert(key, self.own(value)?);
                }
                Ok(Cow::Owned(Value::Object(map)))
            }
            Node::Junction(decides, a, b) => self.junction(*decides, a, b),
            Node::Not(of) => {
                let of = self.node(of)?;
                Ok(yes(!truth(&of)?))
            }
            Node::Negate(of) => {
                let of = self.node(of)?;
                match numeral(&of)? {
                    Numeral::Whole(n) => whole(n.checked_neg()),
                    Numeral::Double(n) => double(-n),
                }
            }
            Node::If(condition, a, b) => {
                let condition = self.node(condition)?;
                if truth(&condition)? { self.node(a) } else { self.node(b) }
            }
            Node::Binary(operator, a, b) => {
                let a = self.node(a)?;
                let b = self.node(b)?;
                self.binary(*operator, a, b)
            }
            Node::Call(Function::First, args) => self.first(args),
            Node::Call(function, args) => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    let value = self.node(arg)?;
                    self.pay(weight(&value))?;
                    values.push(value);
                }
                self.call(*function, values)
            }
            Node::Matches(of, pattern) => {
                let of = self.node(of)?;
                let of = text(of)?;
                self.pay(of.len())?;
                Ok(yes(pattern.is_match(&of)))
            }
            Node::Walk(walk, over, when, body) => self.walk(*walk, over, when.as_deref(), body),
        }
    }

    fn junction(&mut self, decides: bool, a: &'a Node, b: &'a Node) -> Outcome<'a> {
        let a = self.node(a).and_then(|a| truth(&a));
        if a == Ok(decides) || a == Err(Trouble::Spent) {
            return a.map(yes);
        }
        // As CEL has it: what one side cannot say, the other may decide.
        let b = self.node(b).and_then(|b| truth(&b))?;
        if b == decides { Ok(yes(b)) } else { a.map(yes) }
    }

    fn first(&mut self, args: &'a [Node]) -> Outcome<'a> {
        for arg in args {
            match self.node(arg) {
                Ok(value) if *value != Value::Null && value.as_str() != Some("") => return Ok(value),
                Ok(_) | Err(Trouble::Missing(_)) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Err(Trouble::Missing("everything that first tries".to_owned()))
    }

    fn walk(&mut self, walk: Walk, over: &'a Node, when: Option<&'a Node>, body: &'a Node) -> Outcome<'a> {
        let elements: Vec<Cow<'a, Value>> = match self.node(over)? {
            Cow::Borrowed(Value::Array(list)) => list.iter().map(Cow::Borrowed).collect(),
            Cow::Owned(Value::Array(list)) => list.into_iter().map(Cow::Owned).collect(),
            _ => return wrong("something that is not a list is gone through"),
        };
        let (mut list, mut count) = (Vec::new(), 0_usize);
        for element in elements {
            self.locals.push(element);
            let decided = self.visit(walk, when, body, &mut list, &mut count);
            self.locals.pop();
            if let Some(decided) = decided? {
                return Ok(yes(decided));
            }
        }
        Ok(match walk {
            Walk::All => yes(true),
            Walk::Exists => yes(false),
            Walk::ExistsOne => yes(count == 1),
            Walk::Map | Walk::Filter => Cow::Owned(Value::Array(list)),
        })
    }

    /// One element; what decides the whole walk, when it does.
    fn visit(
        &mut self,
        walk: Walk,
        when: Option<&'a Node>,
        body: &'a Node,
        list: &mut Vec<Value>,
        count: &mut usize,
    ) -> Result<Option<bool>, Trouble> {
        if let Some(when) = when {
            let when = self.node(when)?;
            if !truth(&when)? {
                return Ok(None);
            }
        }
        let value = self.node(body)?;
        match walk {
            Walk::Map => list.push(self.own(value)?),
            Walk::All => return Ok((!truth(&value)?).then_some(false)),
            Walk::Exists => return Ok(truth(&value)?.then_some(true)),
            Walk::ExistsOne => *count += usize::from(truth(&value)?),
            Walk::Filter => {
                if truth(&value)?
                    && let Some(element) = self.locals.last().map(borrow_or_clone)
                {
                    list.push(self.own(element)?);
                }
            }
        }
        Ok(None)
    }

    fn binary(&mut self, operator: Binary, a: Cow<'a, Value>, b: Cow<'a, Value>) -> Outcome<'a> {
        self.pay(weight(&a).min(weight(&b)))?;
        match operator {
            Binary::Equals => Ok(yes(equal(&a, &b))),
            Binary::Differs => Ok(yes(!equal(&a, &b))),
            Binary::In => {
                self.pay(weight(&b))?;
                match (&*a, &*b) {
                    (_, Value::Array(list)) => Ok(yes(list.iter().any(|element| equal(&a, element)))),
                    (Value::String(name), Value::Object(map)) => Ok(yes(map.contains_key(name))),
                    _ => wrong("in is applied to something that is not a list"),
                }
            }
            Binary::Less | Binary::LessEquals | Binary::Greater | Binary::GreaterEquals => {
                let order = match (&*a, &*b) {
                    (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
                    (a, b) => numeral(a)?.compare(numeral(b)?),
                };
                Ok(yes(order.is_some_and(|order| match operator {
                    Binary::Less => order == Ordering::Less,
                    Binary::LessEquals => order != Ordering::Greater,
                    Binary::Greater => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                })))
            }
            Binary::Add if a.is_string() && b.is_string() => {
                let (a, b) = (text(a)?, text(b)?);
                self.pay(a.len() + b.len())?;
                Ok(Cow::Owned(Value::String(a.into_owned() + &b)))
            }
            Binary::Add if a.is_array() && b.is_array() => {
                let (Value::Array(mut a), Value::Array(b)) = (self.own(a)?, self.own(b)?) else {
                    return wrong("+ is applied to something that is not a list");
                };
                a.extend(b);
                Ok(Cow::Owned(Value::Array(a)))
            }
            _ => arithmetic(operator, &a, &b),
        }
    }

    /// The arguments are paid for already; what is longer than they are is paid for here.
    fn call(&mut self, function: Function, args: Vec<Cow<'a, Value>>) -> Outcome<'a> {
        let mut args = args.into_iter();
        let mut next = || args.next().ok_or_else(|| Trouble::Missing("an argument".to_owned()));
        let first = next()?;
        let made = |text: String| Ok(Cow::Owned(Value::String(text)));
        match function {
            Function::Size => match &*first {
                Value::String(text) => Ok(Cow::Owned(Value::from(text.chars().count()))),
                Value::Array(list) => Ok(Cow::Owned(Value::from(list.len()))),
                Value::Object(map) => Ok(Cow::Owned(Value::from(map.len()))),
                _ => wrong("size is applied to something that has none"),
            },
            Function::Contains => Ok(yes(text(first)?.contains(&*text(next()?)?))),
            Function::StartsWith => Ok(yes(text(first)?.starts_with(&*text(next()?)?))),
            Function::EndsWith => Ok(yes(text(first)?.ends_with(&*text(next()?)?))),
            Function::String => {
                if first.is_string() {
                    Ok(first)
                } else {
                    made(plain(&first)?)
                }
            }
            Function::Int | Function::Double => convert(function, &first),
            Function::Bool => match &*first {
                Value::Bool(_) => Ok(first),
                Value::String(text) if ["true", "yes", "on", "1"].contains(&text.as_str()) => Ok(yes(true)),
                Value::String(text) if ["false", "no", "off", "0", ""].contains(&text.as_str()) => Ok(yes(false)),
                _ => wrong("bool is applied to something that is neither true nor false"),
            },
            Function::Lower => made(text(first)?.to_lowercase()),
            Function::Upper => made(text(first)?.to_uppercase()),
            Function::Trim => made(text(first)?.trim().to_owned()),
            Function::Replace => {
                let (of, from, to) = (text(first)?, text(next()?)?, text(next()?)?);
                if from.is_empty() {
                    return made(of.into_owned());
                }
                self.pay(of.matches(&*from).count().saturating_mul(to.len()))?;
                made(of.replace(&*from, &to))
            }
            Function::Split => {
                let (of, by) = (text(first)?, text(next()?)?);
                if by.is_empty() {
                    return wrong("split is given nothing to split at");
                }
                self.pay(of.len().saturating_mul(16))?;
                Ok(Cow::Owned(of.split(&*by).map(Value::from).collect()))
            }
            Function::Join => {
                let by = text(next()?)?;
                let Value::Array(list) = &*first else {
                    return wrong("join is applied to something that is not a list");
                };
                self.pay(list.len().saturating_mul(by.len()))?;
                let texts = list.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
                made(texts.join(&by))
            }
            Function::Substring => {
                let of = text(first)?;
                let (from, to) = (index(&*next()?)?, index(&*next()?)?);
                made(of.chars().skip(from).take(to.saturating_sub(from)).collect())
            }
            Function::Sha256 => {
                let digest = sha2::Sha256::digest(text(first)?.as_bytes());
                made(digest.iter().map(|byte| format!("{byte:02x}")).collect())
            }
            Function::Time => match time::read(&first) {
                Some(Timestamp(at)) => Ok(Cow::Owned(Value::from(at))),
                None => wrong("time is applied to something that is no time"),
            },
            Function::Json => made(first.to_string()),
            Function::ParseJson => match serde_json::from_str(&text(first)?) {
                Ok(value) => Ok(Cow::Owned(value)),
                Err(_) => wrong("parse_json is applied to a text that is not JSON"),
            },
            Function::EncodeUri => made(encode_uri(&text(first)?)),
            Function::Without => {
                let names = next()?;
                let (Value::Object(map), Value::Array(names)) = (&*first, &*names) else {
                    return wrong("without takes a map and a list of names");
                };
                self.pay(map.len().saturating_mul(names.len()))?;
                let kept = map.iter().filter(|(name, _)| !names.iter().any(|out| out.as_str() == Some(name)));
                Ok(Cow::Owned(Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())))
            }
            Function::First => Ok(first),
        }
    }
}

// === values ===

const fn yes<'a>(yes: bool) -> Cow<'a, Value> {
    Cow::Owned(Value::Bool(yes))
}

fn borrow<'a>(value: &'a Cow<'a, Value>) -> Cow<'a, Value> {
    Cow::Borrowed(value)
}

fn borrow_or_clone<'a>(value: &Cow<'a, Value>) -> Cow<'a, Value> {
    value.clone()
}

fn truth(value: &Value) -> Result<bool, Trouble> {
    value.as_bool().map_or_else(|| wrong("a yes or no is needed where something else stands"), Ok)
}

fn text(value: Cow<'_, Value>) -> Result<Cow<'_, str>, Trouble> {
    match value {
        Cow::Borrowed(Value::String(text)) => Ok(Cow::Borrowed(text)),
        Cow::Owned(Value::String(text)) => Ok(Cow::Owned(text)),
        _ => wrong("a text is needed where something else stands"),
    }
}

fn field<'a>(of: Cow<'a, Value>, name: &str) -> Outcome<'a> {
    let found = match of {
        Cow::Borrowed(Value::Object(map)) => map.get(name).map(Cow::Borrowed),
        Cow::Owned(Value::Object(mut map)) => map.remove(name).map(Cow::Owned),
        _ => None,
    };
    found.ok_or_else(|| Trouble::Missing(format!("the field {name:?}")))
}

fn element(of: Cow<'_, Value>, at: usize) -> Outcome<'_> {
    let found = match of {
        Cow::Borrowed(Value::Array(list)) => list.get(at).map(Cow::Borrowed),
        Cow::Owned(Value::Array(list)) => list.into_iter().nth(at).map(Cow::Owned),
        _ => None,
    };
    found.ok_or_else(|| Trouble::Missing(format!("element {at}")))
}

fn index(value: &Value) -> Result<usize, Trouble> {
    let found = value.as_u64().and_then(|at| usize::try_from(at).ok());
    found.map_or_else(|| wrong("a place in a text is a number from 0"), Ok)
}

/// The bytes of a value, roughly.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(|element| weight(element) + 16).sum(),
        Value::Object(map) => map.iter().map(|(name, value)| name.len() + weight(value) + 32).sum(),
        _ => 0,
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => match (numeral(a), numeral(b)) {
            (Ok(a), Ok(b)) => a.compare(b) == Some(Ordering::Equal),
            _ => false,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        _ => a == b,
    }
}

/// A number as it is reckoned with.
#[derive(Debug, Clone, Copy)]
enum Numeral {
    Whole(i128),
    Double(f64),
}

impl Numeral {
    #[expect(clippy::cast_precision_loss, reason = "a double is asked for")]
    const fn as_double(self) -> f64 {
        match self {
            Self::Whole(n) => n as f64,
            Self::Double(n) => n,
        }
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (a, b) => a.as_double().partial_cmp(&b.as_double()),
        }
    }
}

fn numeral(value: &Value) -> Result<Numeral, Trouble> {
    let Value::Number(n) = value else { return wrong("a number is needed where something else stands") };
    let whole = n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    Ok(whole.map_or_else(|| Numeral::Double(n.as_f64().unwrap_or(f64::NAN)), Numeral::Whole))
}

fn whole<'a>(n: Option<i128>) -> Outcome<'a> {
    let signed = n.and_then(|n| i64::try_from(n).ok()).map(Number::from);
    let number = signed.or_else(|| n.and_then(|n| u64::try_from(n).ok()).map(Number::from));
    number.map_or_else(|| wrong("is no whole number of 64 bits"), |number| Ok(Cow::Owned(Value::Number(number))))
}

fn double<'a>(n: f64) -> Outcome<'a> {
    Number::from_f64(n).map_or_else(|| wrong("is no number"), |number| Ok(Cow::Owned(Value::Number(number))))
}

#[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
fn convert<'a>(function: Function, value: &Value) -> Outcome<'a> {
    match (function, value) {
        (Function::Int, Value::String(text)) => whole(text.trim().parse().ok()),
        (Function::Int, Value::Bool(yes)) => whole(Some(i128::from(*yes))),
        (Function::Int, value) => match numeral(value)? {
            Numeral::Whole(n) => whole(Some(n)),
            Numeral::Double(n) => whole((n.abs() < EXACT_MAX).then(|| n.trunc() as i128)),
        },
        (_, Value::String(text)) => double(text.trim().parse().unwrap_or(f64::NAN)),
        (_, value) => double(numeral(value)?.as_double()),
    }
}

fn arithmetic<'a>(operator: Binary, a: &Value, b: &Value) -> Outcome<'a> {
    match (numeral(a)?, numeral(b)?) {
        (Numeral::Whole(a), Numeral::Whole(b)) => whole(match operator {
            Binary::Add => a.checked_add(b),
            Binary::Subtract => a.checked_sub(b),
            Binary::Multiply => a.checked_mul(b),
            Binary::Divide => a.checked_div(b),
            Binary::Modulo => a.checked_rem(b),
            _ => None,
        }),
        (a, b) => {
            let (a, b) = (a.as_double(), b.as_double());
            match operator {
                Binary::Add => double(a + b),
                Binary::Subtract => double(a - b),
                Binary::Multiply => double(a * b),
                Binary::Divide => double(a / b),
                _ => wrong("% is applied to a number that is not whole"),
            }
        }
    }
}

/// A text, number or truth as text. A number that was rounded when it was read is refused: as an id it would be
/// another's.
pub(crate) fn plain(value: &Value) -> Result<String, Trouble> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(yes) => Ok(yes.to_string()),
        Value::Number(n) if n.is_f64() && n.as_f64().is_none_or(|n| n.abs() >= EXACT_MAX) => {
            wrong("a number is too large to be exact")
        }
        Value::Number(n) => Ok(n.to_string()),
        _ => wrong("a text is needed where something else stands"),
    }
}

/// Everything but letters, digits and `-._~` as `%XX`.
pub(crate) fn encode_uri(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
