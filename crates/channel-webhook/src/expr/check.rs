//! Reading: what the parser made of a text becomes what can be evaluated, or everything that is wrong with it.

use cel::common::ast::{CallExpr, EntryExpr, Expr as Parsed, IdedExpr, LiteralValue, operators};
use regex::RegexBuilder;
use serde_json::Value;

use super::{Binary, DEPTH_MAX, Expr, Function, LENGTH_MAX, Node, PATTERN_MAX, SIGNS_MAX, Type, Variables, Walk};

/// What can be called, with the types of its arguments and of what comes out.
const FUNCTIONS: &[(&str, Function, &[Type], Type)] = &[
    ("size", Function::Size, &[Type::Any], Type::Number),
    ("contains", Function::Contains, &[Type::Text, Type::Text], Type::Bool),
    ("startsWith", Function::StartsWith, &[Type::Text, Type::Text], Type::Bool),
    ("endsWith", Function::EndsWith, &[Type::Text, Type::Text], Type::Bool),
    ("string", Function::String, &[Type::Any], Type::Text),
    ("int", Function::Int, &[Type::Any], Type::Number),
    ("double", Function::Double, &[Type::Any], Type::Number),
    ("bool", Function::Bool, &[Type::Any], Type::Bool),
    ("lower", Function::Lower, &[Type::Text], Type::Text),
    ("upper", Function::Upper, &[Type::Text], Type::Text),
    ("trim", Function::Trim, &[Type::Text], Type::Text),
    ("replace", Function::Replace, &[Type::Text, Type::Text, Type::Text], Type::Text),
    ("split", Function::Split, &[Type::Text, Type::Text], Type::List),
    ("join", Function::Join, &[Type::List, Type::Text], Type::Text),
    ("substring", Function::Substring, &[Type::Text, Type::Number, Type::Number], Type::Text),
    ("sha256", Function::Sha256, &[Type::Text], Type::Text),
    ("time", Function::Time, &[Type::Any], Type::Number),
    ("json", Function::Json, &[Type::Any], Type::Text),
    ("parse_json", Function::ParseJson, &[Type::Text], Type::Any),
    ("encode_uri", Function::EncodeUri, &[Type::Text], Type::Text),
    ("without", Function::Without, &[Type::Map, Type::List], Type::Map),
];

const WALKS: &[(&str, Walk, Type)] = &[
    ("all", Walk::All, Type::Bool),
    ("exists", Walk::Exists, Type::Bool),
    ("exists_one", Walk::ExistsOne, Type::Bool),
    ("map", Walk::Map, Type::List),
    ("filter", Walk::Filter, Type::List),
];

pub(super) fn read(text: &str, variables: Variables, locals: &[&str]) -> Result<(Expr, Type), Vec<String>> {
    if text.trim().is_empty() {
        return Err(vec!["is empty".to_owned()]);
    }
    if text.len() > LENGTH_MAX {
        return Err(vec![format!("is longer than {LENGTH_MAX} bytes")]);
    }
    if is_deep(text) {
        return Err(vec![format!(
            "has more than {DEPTH_MAX} brackets within each other, or more than {SIGNS_MAX} operators and brackets"
        )]);
    }
    // Without macros: a walk over a list stays the call it is written as, and is bounded here.
    let parsed = cel::Env::default().with_optional_support(false).parser().parse(text).map_err(|errors| {
        let told = |error: &cel::ParseError| format!("column {}: {}", error.pos.1.max(1), one_line(&error.msg));
        errors.errors.iter().map(told).collect::<Vec<_>>()
    })?;
    let locals = locals.iter().map(|name| (*name).to_owned()).collect();
    let mut reader = Reader { variables, locals, wrong: Vec::new() };
    let (node, found) = reader.node(parsed);
    if reader.wrong.is_empty() { Ok((Expr(node), found)) } else { Err(reader.wrong) }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text nests deeper, or chains more, than the stack of a thread bears.
fn is_deep(text: &str) -> bool {
    let (mut depth, mut branches, mut signs) = (0_usize, 0_usize, 0_usize);
    let (mut quote, mut escaped) = (None, false);
    for c in text.chars() {
        if let Some(end) = quote {
            if c == end && !escaped {
                quote = None;
            }
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' | '\'' => (quote, escaped) = (Some(c), false),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '?' => branches += 1,
            _ => {}
        }
        signs += usize::from(!(c.is_alphanumeric() || c.is_whitespace() || c == '_'));
        if depth + branches > DEPTH_MAX || signs > SIGNS_MAX {
            return true;
        }
    }
    // Words are operators too.
    text.split_whitespace().filter(|word| *word == "in").count() > DEPTH_MAX
}

struct Reader {
    variables: Variables,
    /// Names that macros give.
    locals: Vec<String>,
    wrong: Vec<String>,
}

impl Reader {
    fn refuse(&mut self, message: impl Into<String>) -> (Node, Type) {
        let message = message.into();
        if !self.wrong.contains(&message) {
            self.wrong.push(message);
        }
        (Node::Const(Value::Null), Type::Any)
    }

    fn node(&mut self, expr: IdedExpr) -> (Node, Type) {
        match expr.expr {
            Parsed::Literal(literal) => self.literal(&literal),
            Parsed::Ident(name) => self.name(&name),
            Parsed::Select(select) => {
                let field = select.field;
                let (operand, of) = self.boxed(*select.operand);
                if !of.may_be(Type::Map) {
                    return self.refuse(format!("{of} has no field {field:?}"));
                }
                (Node::Field(operand, field), Type::Any)
            }
            Parsed::List(list) => (Node::List(self.nodes(list.elements).0), Type::List),
            Parsed::Map(map) => {
                let mut entries = Vec::new();
                for entry in map.entries {
                    let EntryExpr::MapEntry(entry) = entry.expr else { continue };
                    let (key, of) = self.node(entry.key);
                    if !of.may_be(Type::Text) {
                        self.refuse(format!("{of} cannot be the key of a map; only a text can"));
                    }
                    entries.push((key, self.node(entry.value).0));
                }
                (Node::Map(entries), Type::Map)
            }
            Parsed::Call(call) => self.call(call),
            Parsed::Comprehension(_) | Parsed::Struct(_) | Parsed::Unspecified => {
                self.refuse("structures are not known here")
            }
        }
    }

    fn boxed(&mut self, expr: IdedExpr) -> (Box<Node>, Type) {
        let (node, found) = self.node(expr);
        (Box::new(node), found)
    }

    fn nodes(&mut self, exprs: Vec<IdedExpr>) -> (Vec<Node>, Vec<Type>) {
        exprs.into_iter().map(|expr| self.node(expr)).unzip()
    }

    fn literal(&mut self, literal: &LiteralValue) -> (Node, Type) {
        let (value, found) = match literal {
            LiteralValue::Boolean(yes) => (Value::from(*yes.inner()), Type::Bool),
            LiteralValue::Int(n) => (Value::from(*n.inner()), Type::Number),
            LiteralValue::UInt(n) => (Value::from(*n.inner()), Type::Number),
            LiteralValue::Double(n) => (Value::from(*n.inner()), Type::Number),
            LiteralValue::String(text) => (Value::from(text.inner()), Type::Text),
            LiteralValue::Null => (Value::Null, Type::Null),
            LiteralValue::Bytes(_) => {
                return self.refuse("bytes are not known here; leave the b before the text out");
            }
        };
        (Node::Const(value), found)
    }

    fn name(&mut self, name: &str) -> (Node, Type) {
        if let Some(at) = self.locals.iter().rposition(|known| known == name) {
            return (Node::Local(at), Type::Any);
        }
        let found = self.variables.iter().enumerate().find(|(_, (known, _))| *known == name);
        if let Some((at, (_, found))) = found {
            return (Node::Variable(at), *found);
        }
        let mut known: Vec<&str> = self.locals.iter().map(String::as_str).collect();
        known.extend(self.variables.iter().map(|(name, _)| *name));
        let known = known.join(", ");
        self.refuse(format!("there is no variable {name:?}; there are {known}"))
    }

    fn call(&mut self, call: CallExpr) -> (Node, Type) {
        let CallExpr { func_name: name, target, args } = call;
        if let Some((_, walk, found)) = WALKS.iter().find(|(known, ..)| *known == name) {
            return self.walk(&name, *walk, *found, target, args);
        }
        match name.as_str() {
            operators::HAS => return self.has(args),
            "matches" => return self.matches(target, args),
            "first" => {
                let (args, of) = self.nodes(target.map(|target| *target).into_iter().chain(args).collect());
                if args.is_empty() {
                    return self.refuse("first takes what to try, one after the other");
                }
                let found = of.into_iter().reduce(Type::or).unwrap_or(Type::Any);
                return (Node::Call(Function::First, args), found);
            }
            _ => {}
        }
        if let Some((_, function, wanted, found)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) {
            let (args, of) = self.nodes(target.map(|target| *target).into_iter().chain(args).collect());
            let fit = |(of, wanted): (&Type, &Type)| *wanted == Type::Any || of.may_be(*wanted);
            if of.len() != wanted.len() || !of.iter().zip(*wanted).all(fit) {
                let list = |types: &[Type]| match types {
                    [] => "nothing".to_owned(),
                    types => types.iter().map(Type::to_string).collect::<Vec<_>>().join(", "),
                };
                return self.refuse(format!("{name} takes {}, and is given {}", list(wanted), list(&of)));
            }
            return (Node::Call(*function, args), *found);
        }
        if target.is_some() || !name.chars().all(|c| "_!?:&|+-*/%<>=[]@in".contains(c)) {
            let mut known: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
            known.extend(["first", "matches", "has"]);
            known.extend(WALKS.iter().map(|(name, ..)| *name));
            return self.refuse(format!("there is no function {name:?}; there are {}", known.join(", ")));
        }
        self.operator(&name, args)
    }

    fn operator(&mut self, name: &str, args: Vec<IdedExpr>) -> (Node, Type) {
        let (args, of) = self.nodes(args);
        let mut args = args.into_iter().map(Box::new);
        let is = |at: usize, wanted: Type| of.get(at).is_none_or(|of| of.may_be(wanted));
        let node = match (name, args.next(), args.next(), args.next()) {
            (operators::LOGICAL_NOT, Some(a), None, None) if is(0, Type::Bool) => Some((Node::Not(a), Type::Bool)),
            (operators::NEGATE, Some(a), None, None) if is(0, Type::Number) => Some((Node::Negate(a), Type::Number)),
            (operators::CONDITIONAL, Some(a), Some(b), Some(c)) if is(0, Type::Bool) => {
                let found = of.iter().copied().skip(1).reduce(Type::or).unwrap_or(Type::Any);
                Some((Node::If(a, b, c), found))
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, Some(a), Some(b), None)
                if is(0, Type::Bool) && is(1, Type::Bool) =>
            {
                Some((Node::Junction(name == operators::LOGICAL_OR, a, b), Type::Bool))
            }
            (operators::INDEX, Some(a), Some(b), None)
                if (is(0, Type::List) && is(1, Type::Number)) || (is(0, Type::Map) && is(1, Type::Text)) =>
            {
                Some((Node::Index(a, b), Type::Any))
            }
            (operators::EQUALS | operators::NOT_EQUALS, Some(a), Some(b), None) => {
                if let [x, y] = of.as_slice()
                    && x != y
                    && ![x, y].iter().any(|of| matches!(of, Type::Any | Type::Null))
                {
                    return self.refuse(format!("{x} is never equal to {y}"));
                }
                let operator = if name == operators::EQUALS { Binary::Equals } else { Binary::Differs };
                Some((Node::Binary(operator, a, b), Type::Bool))
            }
            (_, Some(a), Some(b), None) => {
                binary(name, &is, &of).map(|(operator, found)| (Node::Binary(operator, a, b), found))
            }
            _ => None,
        };
        node.unwrap_or_else(|| {
            let of: Vec<String> = of.iter().map(Type::to_string).collect();
            self.refuse(format!("{} cannot be applied to {}", shown(name), of.join(" and ")))
        })
    }

    fn has(&mut self, args: Vec<IdedExpr>) -> (Node, Type) {
        let mut args = args.into_iter();
        match (args.next().map(|arg| arg.expr), args.next()) {
            (Some(Parsed::Select(select)), None) => {
                let operand = self.boxed(*select.operand).0;
                (Node::Has(operand, select.field), Type::Bool)
            }
            _ => self.refuse("has takes a field: has(item.name)"),
        }
    }

    fn matches(&mut self, target: Option<Box<IdedExpr>>, args: Vec<IdedExpr>) -> (Node, Type) {
        let mut args = target.map(|target| *target).into_iter().chain(args);
        let (Some(text), Some(pattern), None) = (args.next(), args.next(), args.next()) else {
            return self.refuse("matches takes a text and a pattern: item.text.matches('[0-9]{5}')");
        };
        let Parsed::Literal(LiteralValue::String(pattern)) = &pattern.expr else {
            return self.refuse("matches takes its pattern in quotes: it is compiled only once");
        };
        let (text, of) = self.boxed(text);
        if !of.may_be(Type::Text) {
            return self.refuse(format!("matches cannot be applied to {of}"));
        }
        match RegexBuilder::new(pattern.inner()).size_limit(PATTERN_MAX).dfa_size_limit(PATTERN_MAX).build() {
            Ok(pattern) => (Node::Matches(text, pattern), Type::Bool),
            Err(error) => {
                let why = one_line(&error.to_string());
                self.refuse(format!("{:?} is not a pattern: {why}", pattern.inner()))
            }
        }
    }

    fn walk(
        &mut self,
        name: &str,
        walk: Walk,
        found: Type,
        target: Option<Box<IdedExpr>>,
        args: Vec<IdedExpr>,
    ) -> (Node, Type) {
        let usage = || format!("{name} is written list.{name}(x, …)");
        let Some(over) = target else { return self.refuse(usage()) };
        let (over, of) = self.boxed(*over);
        if !of.may_be(Type::List) {
            return self.refuse(format!("{of} cannot be gone through; only a list can"));
        }
        let mut args = args.into_iter();
        let Some(Parsed::Ident(local)) = args.next().map(|arg| arg.expr) else { return self.refuse(usage()) };
        let (Some(first), second, None) = (args.next(), args.next(), args.next()) else { return self.refuse(usage()) };
        if second.is_some() && walk != Walk::Map {
            return self.refuse(usage());
        }
        self.locals.push(local);
        let (first, first_of) = self.boxed(first);
        let second = second.map(|second| self.boxed(second).0);
        self.locals.pop();
        if (walk != Walk::Map || second.is_some()) && !first_of.may_be(Type::Bool) {
            return self.refuse(format!("{first_of} stands where a yes or no is needed"));
        }
        let node = match second {
            Some(body) => Node::Walk(walk, over, Some(first), body),
            None => Node::Walk(walk, over, None, first),
        };
        (node, found)
    }
}

/// An operator between two values, if it can be applied to them.
fn binary(name: &str, is: &dyn Fn(usize, Type) -> bool, of: &[Type]) -> Option<(Binary, Type)> {
    let both = |wanted: Type| is(0, wanted) && is(1, wanted);
    let numbers = both(Type::Number);
    let ordered = numbers || both(Type::Text);
    let known = of.iter().copied().find(|of| *of != Type::Any).unwrap_or(Type::Any);
    let (operator, fits, found) = match name {
        operators::ADD => (Binary::Add, ordered || both(Type::List), known),
        operators::SUBSTRACT => (Binary::Subtract, numbers, Type::Number),
        operators::MULTIPLY => (Binary::Multiply, numbers, Type::Number),
        operators::DIVIDE => (Binary::Divide, numbers, Type::Number),
        operators::MODULO => (Binary::Modulo, numbers, Type::Number),
        operators::LESS => (Binary::Less, ordered, Type::Bool),
        operators::LESS_EQUALS => (Binary::LessEquals, ordered, Type::Bool),
        operators::GREATER => (Binary::Greater, ordered, Type::Bool),
        operators::GREATER_EQUALS => (Binary::GreaterEquals, ordered, Type::Bool),
        operators::IN => (Binary::In, is(1, Type::List) || (is(1, Type::Map) && is(0, Type::Text)), Type::Bool),
        _ => return None,
    };
    fits.then_some((operator, found))
}

/// An operator as it is written.
fn shown(name: &str) -> &str {
    match name {
        operators::INDEX => "[]",
        operators::IN => "in",
        operators::CONDITIONAL => "?:",
        _ => name.trim_matches('_'),
    }
}
