//! The conditions of rules, in CEL: read and type-checked once, evaluated against facts.
//!
//! The interpreter finds out about types only as it runs, and a rule that fails then silently never fits. So
//! the expression is walked here first, with the types of what there is. Two functions are resolved on the
//! way, because their arguments are known: `keyword`, whose words are looked up in the message's words, and
//! `matches`, whose pattern is compiled once.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelBool, CelInt, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, Value};
use contract::policy::Value as Attribute;
use regex::{Regex, RegexBuilder};
use smol_str::SmolStr;

use crate::facts::Facts;

/// Longest condition, in characters.
const LENGTH_MAX: usize = 2000;
/// Most brackets within each other.
const DEPTH_MAX: usize = 32;
/// Most operators in a row.
const CHAIN_MAX: usize = 64;
/// Largest compiled pattern of `matches`, in bytes.
const PATTERN_MAX: usize = 256 * 1024;

/// How the variables that stand for `keyword(…)` begin; nobody can write such a name.
const KEYWORD: &str = "@keyword";
/// The function that stands for `matches`.
const MATCHES: &str = "@matches";

/// What can be called, for the message when something else is.
const FUNCTIONS: &str = "keyword, contains, startsWith, endsWith, matches, size, has, exists, exists_one, all, map, \
                         filter, string, int, uint, double, bool";

/// The words and patterns of all rules, and what they are evaluated in.
#[derive(Clone)]
pub(crate) struct Language {
    env: Arc<Env>,
    /// The words of each `keyword(…)`, with a space before and after every one.
    phrases: Vec<Vec<String>>,
    patterns: Arc<Vec<Regex>>,
    hours: Vec<SmolStr>,
}

impl std::fmt::Debug for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { env: _, phrases, patterns, hours } = self;
        f.debug_struct("Language")
            .field("phrases", phrases)
            .field("patterns", patterns)
            .field("hours", hours)
            .finish_non_exhaustive()
    }
}

/// A condition that can be evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    expr: IdedExpr,
}

impl Condition {
    /// It says `true`, whatever comes.
    pub(crate) fn is_always(&self) -> bool {
        matches!(&self.expr.expr, Expr::Literal(LiteralValue::Boolean(yes)) if *yes.inner())
    }
}

impl Language {
    /// The language of a policy that has these opening hours.
    pub(crate) fn new(hours: impl Iterator<Item = SmolStr>) -> Self {
        Self {
            env: Arc::new(Env::stdlib().with_optional_support(false)),
            phrases: Vec::new(),
            patterns: Arc::default(),
            hours: hours.collect(),
        }
    }

    /// Reads a condition.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn read(&mut self, text: &str) -> Result<Condition, Vec<String>> {
        if text.chars().count() > LENGTH_MAX {
            return Err(vec![format!("is longer than {LENGTH_MAX} characters")]);
        }
        if is_deep(text) {
            return Err(vec![format!(
                "has more than {DEPTH_MAX} brackets within each other or {CHAIN_MAX} operators in a row"
            )]);
        }
        let parsed = self.env.parser().parse(text).map_err(|errors| {
            errors
                .errors
                .iter()
                .map(|error| format!("column {}: {}", error.pos.1.max(1), one_line(&error.msg)))
                .collect::<Vec<_>>()
        });
        let mut expr = parsed?;
        let mut checker = Checker { language: self, scope: Vec::new(), within: 0, wrong: Vec::new() };
        let found = checker.check(&mut expr);
        if !matches!(found, Type::Bool | Type::Any) {
            checker.wrong.push(format!("is {found}, and must be true or false"));
        }
        let wrong = checker.wrong;
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let condition = Condition { expr };
        self.try_out(&condition).map_err(|message| vec![message])?;
        Ok(condition)
    }

    /// Evaluates it once on nothing and once on something: what the types did not tell.
    fn try_out(&self, condition: &Condition) -> Result<(), String> {
        let something = Facts {
            channel: "chat".into(),
            account: "web".into(),
            language: Some("en".into()),
            segment: Some("gold".into()),
            intent: Some("refund".into()),
            text: "A sentence, with 7 words in it.".to_owned(),
            tags: ["sales", "vip"].map(SmolStr::new_static).into(),
            // Whatever was put here, a condition could ask for the same name with another type.
            customer: BTreeMap::new(),
            verified: true,
        };
        for facts in [&Facts::default(), &something] {
            let seen = Seen::new(self, facts, |_| true);
            match seen.value(condition) {
                Ok(Some(_)) => {}
                Ok(None) => return Err("is neither true nor false".to_owned()),
                Err(error @ (cel::ExecutionError::UndeclaredReference(_) | cel::ExecutionError::InternalError(_))) => {
                    return Err(one_line(&error.to_string()));
                }
                // What only some facts lack, like a customer's attribute.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text nests deeper, or chains more operators, than the stack of a thread bears. The parser walks
/// down every bracket, and evaluation down every chain: `1+1+1` is `(1+1)+1`. Only `&&` and `||` are put
/// together evenly, however many there are.
fn is_deep(text: &str) -> bool {
    // The operators in a row within each open bracket, the outermost first.
    let mut chains = vec![0_usize];
    let (mut chained, mut branches) = (0_usize, 0_usize);
    let (mut quote, mut escaped) = (None, false);
    let mut word = String::new();
    for c in text.chars() {
        if let Some(end) = quote {
            if c == end && !escaped {
                quote = None;
            }
            escaped = c == '\\' && !escaped;
            continue;
        }
        let mut links = 0;
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        if std::mem::take(&mut word) == "in" {
            links += 1;
        }
        match c {
            '"' | '\'' => (quote, escaped) = (Some(c), false),
            '(' | '[' | '{' => chains.push(0),
            ')' | ']' | '}' => {
                if chains.len() > 1 {
                    chained -= chains.pop().unwrap_or(0);
                }
                links += 1;
            }
            ',' | '&' | '|' => {
                if let Some(chain) = chains.last_mut() {
                    chained -= std::mem::take(chain);
                }
                continue;
            }
            '?' => branches += 1,
            '!' | '-' | '+' | '*' | '/' | '%' | '.' | '<' | '>' | '=' => links += 1,
            _ => {}
        }
        if let Some(chain) = chains.last_mut() {
            *chain += links;
            chained += links;
        }
        if chains.len() + branches > DEPTH_MAX || chained > CHAIN_MAX {
            return true;
        }
    }
    false
}

/// A message's words in lower case, each with a space before and after it. Signs of scripts that are written
/// without spaces are words of their own.
pub(crate) fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + 2);
    words.push(' ');
    for c in text.chars() {
        let mark = matches!(c, '\u{300}'..='\u{36f}');
        if c.is_alphanumeric() || mark {
            let alone = is_alone(c);
            if alone && !words.ends_with(' ') {
                words.push(' ');
            }
            words.extend(c.to_lowercase());
            if alone {
                words.push(' ');
            }
        } else if !words.ends_with(' ') {
            words.push(' ');
        }
    }
    if !words.ends_with(' ') {
        words.push(' ');
    }
    words
}

/// Thai, Lao, Burmese, Khmer, Japanese and Chinese signs.
fn is_alone(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

// === evaluation ===

/// Facts as the conditions see them. What takes work is worked out when it is first asked for.
pub(crate) struct Seen<'a, Open> {
    language: &'a Language,
    facts: &'a Facts,
    open: Open,
    words: OnceLock<String>,
    tags: OnceLock<Option<Box<dyn Val>>>,
    customer: OnceLock<Option<Box<dyn Val>>>,
    now_open: OnceLock<Option<Box<dyn Val>>>,
}

impl<'a, Open: Fn(&str) -> bool + Send + Sync> Seen<'a, Open> {
    /// `open` says whether opening hours are open.
    pub(crate) fn new(language: &'a Language, facts: &'a Facts, open: Open) -> Self {
        Self {
            language,
            facts,
            open,
            words: OnceLock::new(),
            tags: OnceLock::new(),
            customer: OnceLock::new(),
            now_open: OnceLock::new(),
        }
    }

    /// What conditions are evaluated in; worth keeping for several.
    pub(crate) fn context(&self) -> Context<'_, '_> {
        let mut context = Context::with_env(Arc::clone(&self.language.env));
        context.set_variable_resolver(self);
        if !self.language.patterns.is_empty() {
            let patterns = Arc::clone(&self.language.patterns);
            let matches = move |text: Arc<String>, number: i64| {
                usize::try_from(number).is_ok_and(|n| patterns.get(n).is_some_and(|pattern| pattern.is_match(&text)))
            };
            // It fails for a name that the language has already.
            let _ = context.add_function(MATCHES, matches);
        }
        context
    }

    fn value(&self, condition: &Condition) -> Result<Option<bool>, cel::ExecutionError> {
        let context = self.context();
        let value = Value::resolve_val(&condition.expr, &context)?;
        Ok(value.downcast_ref::<CelBool>().map(|yes| *yes.inner()))
    }
}

/// Whether a condition holds; one that cannot be evaluated does not.
pub(crate) fn fits(condition: &Condition, context: &Context<'_, '_>) -> bool {
    let value = Value::resolve_val(&condition.expr, context);
    value.is_ok_and(|value| value.downcast_ref::<CelBool>().is_some_and(|yes| *yes.inner()))
}

fn boxed(value: Value) -> Option<Box<dyn Val>> {
    value.try_into().ok()
}

fn text_value(text: &str) -> Option<CowVal<'_, '_>> {
    Some(CowVal::owned(CelString::from(text)))
}

impl<Open: Fn(&str) -> bool + Send + Sync> VariableResolver for Seen<'_, Open> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let facts = self.facts;
        let lazy = |value: &'b Option<Box<dyn Val>>| value.as_deref().map(CowVal::Borrowed);
        match variable {
            "channel" => text_value(&facts.channel),
            "account" => text_value(&facts.account),
            "language" => text_value(facts.language.as_deref().unwrap_or_default()),
            "segment" => text_value(facts.segment.as_deref().unwrap_or_default()),
            "intent" => text_value(facts.intent.as_deref().unwrap_or_default()),
            "text" => text_value(facts.text_read()),
            "verified" => Some(CowVal::owned(CelBool::from(facts.verified))),
            "tags" => lazy(
                self.tags
                    .get_or_init(|| boxed(Value::from(facts.tags_read().map(SmolStr::as_str).collect::<Vec<_>>()))),
            ),
            "customer" => lazy(self.customer.get_or_init(|| {
                boxed(map(facts.customer.iter().map(|(name, value)| (name.as_str(), attribute(value)))))
            })),
            "now_open" => lazy(self.now_open.get_or_init(|| {
                boxed(map(self.language.hours.iter().map(|name| (name.as_str(), Value::Bool((self.open)(name))))))
            })),
            _ => {
                let number: usize = variable.strip_prefix(KEYWORD)?.parse().ok()?;
                let phrases = self.language.phrases.get(number)?;
                let words = self.words.get_or_init(|| words(facts.text_read()));
                let any = phrases.iter().any(|phrase| words.contains(phrase.as_str()));
                Some(CowVal::owned(CelBool::from(any)))
            }
        }
    }
}

fn map<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    // The order of the map's hash is never seen: conditions cannot walk over a map.
    Value::from(entries.map(|(name, value)| (name.to_owned(), value)).collect::<std::collections::HashMap<_, _>>())
}

fn attribute(value: &Attribute) -> Value {
    match value {
        Attribute::Bool(yes) => Value::Bool(*yes),
        Attribute::Number(n) => Value::Int(*n),
        Attribute::Text(text) => Value::from(text.as_str()),
    }
}

// === types ===

/// What a part of a condition can be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Type {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Null,
    List(Box<Type>),
    /// From text.
    Map(Box<Type>),
    /// A single value of a kind that is known only when it is there.
    Any,
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bool => "a yes or no",
            Self::Int | Self::Uint | Self::Double => "a number",
            Self::Text => "a text",
            Self::Null => "null",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Any => "a value",
        })
    }
}

impl Type {
    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    fn comparable(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Null, _) | (_, Self::Any | Self::Null) => true,
            (Self::List(a), Self::List(b)) | (Self::Map(a), Self::Map(b)) => a.comparable(b),
            (a, b) => a == b || (a.is_number() && b.is_number()),
        }
    }

    /// What is one or the other.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.or(*b))),
            (a, b) if a == b => a,
            _ => Self::Any,
        }
    }
}

struct Checker<'a> {
    language: &'a mut Language,
    /// Names that macros give.
    scope: Vec<(String, Type)>,
    /// How many macros go over lists around here.
    within: usize,
    wrong: Vec<String>,
}

const VARIABLES: [&str; 10] =
    ["channel", "account", "language", "segment", "intent", "text", "tags", "customer", "verified", "now_open"];

impl Checker<'_> {
    fn check(&mut self, expr: &mut IdedExpr) -> Type {
        if let Some(resolved) = self.resolved(&mut expr.expr) {
            return resolved;
        }
        match &mut expr.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Int(_) => Type::Int,
                LiteralValue::UInt(_) => Type::Uint,
                LiteralValue::Double(_) => Type::Double,
                LiteralValue::String(_) => Type::Text,
                LiteralValue::Null => Type::Null,
                LiteralValue::Bytes(_) => self.refuse("bytes are not known here; leave the b before the text out"),
            },
            Expr::Ident(name) => self.variable(&name.clone()),
            Expr::Select(select) => {
                let known = is_now_open(&select.operand.expr);
                match self.check(&mut select.operand) {
                    Type::Map(value) => {
                        if known {
                            self.hours(&select.field.clone());
                        }
                        if select.test { Type::Bool } else { *value }
                    }
                    other => self.refuse(format!("{other} has no field {:?}", select.field)),
                }
            }
            Expr::List(list) => {
                let mut of: Option<Type> = None;
                for element in &mut list.elements {
                    let found = self.check(element);
                    of = Some(of.map_or(found.clone(), |of| of.or(found)));
                }
                Type::List(Box::new(of.unwrap_or(Type::Any)))
            }
            Expr::Map(map) => {
                let mut of: Option<Type> = None;
                for entry in &mut map.entries {
                    let EntryExpr::MapEntry(entry) = &mut entry.expr else { continue };
                    let key = self.check(&mut entry.key);
                    if key != Type::Text {
                        self.refuse(format!("{key} cannot be the key of a map; only a text can"));
                    }
                    let found = self.check(&mut entry.value);
                    of = Some(of.map_or(found.clone(), |of| of.or(found)));
                }
                Type::Map(Box::new(of.unwrap_or(Type::Any)))
            }
            Expr::Call(call) => {
                let name = call.func_name.clone();
                let keyed = call.args.first().is_some_and(|first| is_now_open(&first.expr));
                if name == operators::INDEX
                    && keyed
                    && let Some(key) = call.args.get(1).and_then(|key| text_of(&key.expr))
                {
                    self.hours(&key);
                }
                let target = call.target.as_mut().map(|target| self.check(target));
                let args: Vec<Type> = call.args.iter_mut().map(|arg| self.check(arg)).collect();
                self.call(&name, target.as_ref(), &args)
            }
            Expr::Comprehension(over) => {
                let of = match self.check(&mut over.iter_range) {
                    Type::List(of) => *of,
                    Type::Any => Type::Any,
                    other => self.refuse(format!("{other} cannot be gone through; only a list can")),
                };
                if self.within > 0 {
                    return self.refuse("a macro over a list cannot stand within another");
                }
                self.within += 1;
                let begin = self.check(&mut over.accu_init);
                self.scope.push((over.accu_var.clone(), begin.clone()));
                self.scope.push((over.iter_var.clone(), of));
                self.check(&mut over.loop_cond);
                let step = self.check(&mut over.loop_step);
                self.scope.pop();
                self.scope.pop();
                self.scope.push((over.accu_var.clone(), begin.or(step)));
                let result = self.check(&mut over.result);
                self.scope.pop();
                self.within -= 1;
                result
            }
            Expr::Struct(_) => self.refuse("structures are not known here"),
            Expr::Unspecified => self.refuse("cannot be read"),
        }
    }

    fn refuse(&mut self, message: impl Into<String>) -> Type {
        let message = message.into();
        if !self.wrong.contains(&message) {
            self.wrong.push(message);
        }
        Type::Any
    }

    fn variable(&mut self, name: &str) -> Type {
        if let Some((_, found)) = self.scope.iter().rev().find(|(known, _)| known == name) {
            return found.clone();
        }
        match name {
            "channel" | "account" | "language" | "segment" | "intent" | "text" => Type::Text,
            "verified" => Type::Bool,
            "tags" => Type::List(Box::new(Type::Text)),
            "customer" => Type::Map(Box::new(Type::Any)),
            "now_open" => Type::Map(Box::new(Type::Bool)),
            _ => self.refuse(format!("there is no variable {name:?}; there are {}", VARIABLES.join(", "))),
        }
    }

    fn hours(&mut self, name: &str) {
        if !self.language.hours.iter().any(|known| known == name) {
            self.refuse(format!("there are no hours {name:?}"));
        }
    }

    fn call(&mut self, name: &str, target: Option<&Type>, args: &[Type]) -> Type {
        let any = |found: &Type, wanted: &Type| found == wanted || *found == Type::Any;
        let number = |found: &Type| found.is_number() || *found == Type::Any;
        match (name, target, args) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, None, args) => {
                if let Some(other) = args.iter().find(|arg| !any(arg, &Type::Bool)) {
                    return self.refuse(format!("{other} stands where a yes or no is needed"));
                }
                Type::Bool
            }
            (operators::LOGICAL_NOT, None, [arg]) if any(arg, &Type::Bool) => Type::Bool,
            (operators::NOT_STRICTLY_FALSE, None, [_]) => Type::Bool,
            (operators::NEGATE, None, [arg]) if number(arg) => arg.clone(),
            (operators::CONDITIONAL, None, [condition, yes, no]) if any(condition, &Type::Bool) => {
                yes.clone().or(no.clone())
            }
            (operators::EQUALS | operators::NOT_EQUALS, None, [a, b]) => {
                if !a.comparable(b) {
                    return self.refuse(format!("{a} is never equal to {b}"));
                }
                Type::Bool
            }
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                None,
                [a, b],
            ) if a.comparable(b) && [a, b].iter().all(|t| !matches!(t, Type::List(_) | Type::Map(_) | Type::Null)) => {
                Type::Bool
            }
            (operators::ADD, None, [Type::List(a), Type::List(b)]) => Type::List(Box::new(a.clone().or(*b.clone()))),
            (operators::ADD, None, [a, b])
                if (a == b || *a == Type::Any || *b == Type::Any)
                    && [a, b].iter().all(|t| number(t) || **t == Type::Text) =>
            {
                if *a == Type::Any {
                    b.clone()
                } else {
                    a.clone()
                }
            }
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, None, [a, b])
                if number(a) && number(b) && (a == b || *a == Type::Any || *b == Type::Any) =>
            {
                if *a == Type::Any {
                    b.clone()
                } else {
                    a.clone()
                }
            }
            (operators::IN, None, [found, Type::List(of)]) if found.comparable(of) => Type::Bool,
            (operators::IN, None, [found, Type::Map(_)]) if any(found, &Type::Text) => Type::Bool,
            (operators::INDEX, None, [Type::List(of), at]) if any(at, &Type::Int) => *of.clone(),
            (operators::INDEX, None, [Type::Map(of), key]) if any(key, &Type::Text) => *of.clone(),
            ("size", None, [of]) | ("size", Some(of), [])
                if matches!(of, Type::Text | Type::List(_) | Type::Map(_) | Type::Any) =>
            {
                Type::Int
            }
            ("contains" | "startsWith" | "endsWith", Some(text), [part])
                if any(text, &Type::Text) && any(part, &Type::Text) =>
            {
                Type::Bool
            }
            (MATCHES, None, [text, _]) if any(text, &Type::Text) => Type::Bool,
            ("string", None, [of]) if number(of) || matches!(of, Type::Text | Type::Bool) => Type::Text,
            ("int", None, [of]) if number(of) || *of == Type::Text => Type::Int,
            ("uint", None, [of]) if number(of) || *of == Type::Text => Type::Uint,
            ("double", None, [of]) if number(of) || *of == Type::Text => Type::Double,
            ("bool", None, [Type::Bool | Type::Text | Type::Any]) => Type::Bool,
            _ => self.misfit(name, target, args),
        }
    }

    /// Something that cannot be called, or not with this.
    fn misfit(&mut self, name: &str, target: Option<&Type>, args: &[Type]) -> Type {
        let known = FUNCTIONS.split(", ").any(|function| function == name) || name == MATCHES;
        let operator = name.trim_matches(['_', '@']);
        let operator = if operator == "[_]" || name == operators::INDEX { "[]" } else { operator };
        let is_operator = name.contains('_') && !known && name.chars().all(|c| !c.is_alphanumeric());
        if !known && !is_operator && name != operators::IN {
            return self.refuse(format!("there is no function {name:?}; there are {FUNCTIONS}"));
        }
        let name = if name == MATCHES { "matches" } else { operator };
        let list = target.into_iter().chain(args).map(Type::to_string).collect::<Vec<_>>().join(" and ");
        self.refuse(format!("{name} cannot be applied to {list}"))
    }

    /// `keyword` and `matches`, put into the form in which they are evaluated.
    fn resolved(&mut self, expr: &mut Expr) -> Option<Type> {
        let Expr::Call(call) = expr else { return None };
        match call.func_name.as_str() {
            "keyword" => {
                let args: Vec<Option<String>> = call.args.iter().map(|arg| text_of(&arg.expr)).collect();
                if call.target.is_some() || args.is_empty() || args.iter().any(Option::is_none) {
                    return Some(self.refuse("keyword takes words in quotes: keyword('refund', 'money back')"));
                }
                let mut phrases = Vec::new();
                for word in args.into_iter().flatten() {
                    let phrase = words(&word);
                    if phrase.trim().is_empty() {
                        self.refuse(format!("keyword: there is no word in {word:?}"));
                    }
                    phrases.push(phrase);
                }
                *expr = Expr::Ident(format!("{KEYWORD}{}", self.language.phrases.len()));
                self.language.phrases.push(phrases);
                Some(Type::Bool)
            }
            "matches" => {
                let (target, pattern) = match (call.target.take(), call.args.len()) {
                    (Some(target), 1) => (*target, call.args.pop()),
                    (None, 2) => {
                        let pattern = call.args.pop();
                        (call.args.pop()?, pattern)
                    }
                    _ => return Some(self.refuse("matches takes a text and a pattern: text.matches('[0-9]{5}')")),
                };
                let Some(pattern) = pattern.and_then(|pattern| text_of(&pattern.expr)) else {
                    return Some(self.refuse("matches takes its pattern in quotes: it is compiled only once"));
                };
                let number =
                    match RegexBuilder::new(&pattern).size_limit(PATTERN_MAX).dfa_size_limit(PATTERN_MAX).build() {
                        Ok(compiled) => {
                            let patterns = Arc::make_mut(&mut self.language.patterns);
                            patterns.push(compiled);
                            patterns.len() - 1
                        }
                        Err(error) => {
                            let error = one_line(&error.to_string());
                            return Some(self.refuse(format!("{pattern:?} is not a pattern: {error}")));
                        }
                    };
                let number = CelInt::from(i64::try_from(number).unwrap_or(i64::MAX));
                MATCHES.clone_into(&mut call.func_name);
                call.args = vec![target, IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(number)) }];
                None
            }
            _ => None,
        }
    }
}

fn is_now_open(expr: &Expr) -> bool {
    matches!(expr, Expr::Ident(name) if name == "now_open")
}

/// The text of a literal.
fn text_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().to_owned()),
        _ => None,
    }
}
