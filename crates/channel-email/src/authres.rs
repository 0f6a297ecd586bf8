//! What the receiving server found out about the sender (RFC 8601). Pure.
//!
//! Anybody can write an Authentication-Results header. Believed is only the topmost one that names the
//! receiver of the settings, read by its grammar: text in comments and quoted strings is text, a method
//! that is reported twice says nothing, and a pass counts only for the domain of the From.

use adapter::contract::SmolStr;
use adapter::contract::envelope::{AuthLevel, SenderAuth};

use crate::headers::Headers;

/// Longest header that is read.
const BYTES_MAX: usize = 8 * 1024;

/// The verdict on one mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) auth: SenderAuth,
    /// The header that it is from.
    pub(crate) header: Option<String>,
    /// The domain that it holds for.
    pub(crate) aligned: Option<SmolStr>,
}

/// One method's result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Outcome {
    method: String,
    result: String,
    properties: Vec<(String, String)>,
}

impl Outcome {
    fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Judges the From of a mail; `from` is its only domain, absent when there are several or none.
pub(crate) fn judge(headers: &Headers, authserv_id: Option<&str>, from: Option<&str>) -> Verdict {
    let unverified = |detail: &str, header: Option<&str>| Verdict {
        auth: SenderAuth { level: AuthLevel::Unverified, detail: Some(detail.into()) },
        header: header.map(str::to_owned),
        aligned: None,
    };
    let Some(authserv_id) = authserv_id else {
        return unverified("no receiver is trusted", None);
    };
    let header = headers
        .all("authentication-results")
        .find(|value| server(value).is_some_and(|id| id.eq_ignore_ascii_case(authserv_id.trim())));
    let Some(header) = header else {
        return unverified("the trusted receiver left no results", None);
    };
    let Some(outcomes) = parse(header) else {
        return unverified("the results are malformed", Some(header));
    };
    let Some(from) = from else {
        return unverified("the mail does not have exactly one From", Some(header));
    };
    let (level, detail) = weigh(&outcomes, from);
    let aligned = matches!(level, AuthLevel::DmarcPass | AuthLevel::SpfDkimAligned).then(|| from.into());
    Verdict { auth: SenderAuth { level, detail: Some(detail.into()) }, header: Some(header.to_owned()), aligned }
}

fn weigh(outcomes: &[Outcome], from: &str) -> (AuthLevel, &'static str) {
    let of = |method: &str| outcomes.iter().filter(|found| found.method == method).collect::<Vec<_>>();
    let about_from = |dmarc: &Outcome| dmarc.property("header.from").is_some_and(|domain| same(domain, from));
    match of("dmarc").as_slice() {
        [dmarc] if dmarc.result == "pass" && about_from(dmarc) => {
            return (AuthLevel::DmarcPass, "dmarc=pass for the domain of the From");
        }
        [dmarc] if dmarc.result == "fail" => return (AuthLevel::Failed, "dmarc=fail"),
        [dmarc] if dmarc.result == "pass" => {
            return (AuthLevel::Unverified, "dmarc=pass for another domain than the From's");
        }
        [] | [_] => {}
        _ => return (AuthLevel::Unverified, "dmarc is reported more than once"),
    }
    if let [spf] = of("spf").as_slice()
        && spf.result == "pass"
        && spf.property("smtp.mailfrom").is_some_and(|address| covers(from, domain_of(address)))
    {
        return (AuthLevel::SpfDkimAligned, "spf=pass, aligned");
    }
    if let [dkim] = of("dkim").as_slice()
        && dkim.result == "pass"
        && dkim
            .property("header.d")
            .or_else(|| dkim.property("header.i"))
            .is_some_and(|domain| covers(from, domain_of(domain)))
    {
        return (AuthLevel::SpfDkimAligned, "dkim=pass, aligned");
    }
    (AuthLevel::Unverified, "nothing vouches for the From")
}

fn domain_of(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or(address)
}

fn same(a: &str, b: &str) -> bool {
    a.trim_end_matches('.').eq_ignore_ascii_case(b.trim_end_matches('.'))
}

/// Whether `domain` is that of the From or below it. Not above: without a list of public suffixes, a
/// domain above may be a registry's.
fn covers(from: &str, domain: &str) -> bool {
    let (from, domain) = (from.to_ascii_lowercase(), domain.trim_end_matches('.').to_ascii_lowercase());
    same(&from, &domain) || domain.strip_suffix(&from).is_some_and(|head| head.ends_with('.'))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Letters, digits and what stands between them.
    Word(String),
    Quoted(String),
    /// `=`, `/`, `;`
    Sign(char),
    Space,
}

/// The authserv-id of a header; `None` when it does not begin with one.
fn server(value: &str) -> Option<String> {
    match tokens(value)?.into_iter().find(|token| *token != Token::Space)? {
        Token::Word(id) | Token::Quoted(id) => Some(id),
        _ => None,
    }
}

/// The results of a header; `None` when it breaks the grammar anywhere.
fn parse(value: &str) -> Option<Vec<Outcome>> {
    let tokens = tokens(value)?;
    let mut sections = tokens.split(|token| *token == Token::Sign(';'));
    let head: Vec<_> = sections.next()?.iter().filter(|token| **token != Token::Space).collect();
    match head.as_slice() {
        [Token::Word(_) | Token::Quoted(_)] => {}
        [Token::Word(_) | Token::Quoted(_), Token::Word(version)] if version.bytes().all(|b| b.is_ascii_digit()) => {}
        _ => return None,
    }
    let mut outcomes = Vec::new();
    for section in sections {
        let pairs = pairs(section)?;
        let Some(((method, result), rest)) = pairs.split_first() else { continue };
        if method == "none" && result.is_empty() && rest.is_empty() {
            continue;
        }
        if result.is_empty() {
            return None;
        }
        let method = method.split('/').next().unwrap_or_default().to_owned();
        outcomes.push(Outcome { method, result: result.to_ascii_lowercase(), properties: rest.to_vec() });
    }
    Some(outcomes)
}

/// `name = value` several times; a name alone has an empty value and is legal only as `none`.
fn pairs(section: &[Token]) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = section.iter().filter(|token| **token != Token::Space).peekable();
    while let Some(token) = rest.next() {
        let Token::Word(name) = token else { return None };
        let mut name = name.to_ascii_lowercase();
        if rest.next_if(|next| **next == Token::Sign('/')).is_some() {
            let Some(Token::Word(version)) = rest.next() else { return None };
            name = format!("{name}/{version}");
        }
        if rest.next_if(|next| **next == Token::Sign('=')).is_none() {
            if name == "none" && rest.peek().is_none() && pairs.is_empty() {
                pairs.push((name, String::new()));
                return Some(pairs);
            }
            return None;
        }
        let value = match rest.next()? {
            Token::Word(value) | Token::Quoted(value) => value.clone(),
            _ => return None,
        };
        // A property twice could be read either way.
        if pairs.iter().any(|(found, _)| *found == name) {
            return None;
        }
        pairs.push((name, value));
    }
    Some(pairs)
}

fn tokens(value: &str) -> Option<Vec<Token>> {
    if value.len() > BYTES_MAX {
        return None;
    }
    let mut tokens = Vec::new();
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '(' => {
                skip_comment(&mut chars)?;
                tokens.push(Token::Space);
            }
            '"' => tokens.push(Token::Quoted(quoted(&mut chars)?)),
            ';' | '=' | '/' => tokens.push(Token::Sign(c)),
            c if c.is_whitespace() => tokens.push(Token::Space),
            ')' | '\\' | '<' | '>' => return None,
            c if c.is_control() => return None,
            c => {
                let mut word = String::from(c);
                // A value may hold a slash or an equals sign (base64 of header.b), a name may not: names
                // come before the first `=` of their pair.
                let value = matches!(tokens.iter().rev().find(|token| **token != Token::Space), Some(Token::Sign('=')));
                while let Some(next) = chars.next_if(|c| {
                    !c.is_whitespace() && !c.is_control() && !"();\"\\<>".contains(*c) && (value || !"=/".contains(*c))
                }) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Some(tokens)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_comment(chars: &mut Chars<'_>) -> Option<()> {
    let mut depth = 1_u32;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next()?;
            }
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(());
        }
    }
    None
}

fn quoted(chars: &mut Chars<'_>) -> Option<String> {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some(text),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn level(headers: &[&str]) -> AuthLevel {
        let text: String = headers.iter().map(|value| format!("Authentication-Results: {value}\r\n")).collect();
        let headers = Headers::parse(text.as_bytes());
        judge(&headers, Some("mx.shop.example"), Some("bank.example")).auth.level
    }

    #[test]
    fn a_pass_for_the_from_is_a_pass() {
        for good in [
            "mx.shop.example; dmarc=pass header.from=bank.example",
            "MX.Shop.Example 1; spf=pass smtp.mailfrom=x@bank.example; dmarc=pass (p=REJECT) header.from=Bank.Example",
            "mx.shop.example;\tdkim=pass header.i=@bank.example header.s=s header.b=\"a+/=\"; dkim=pass header.d=esp.example;\tdmarc=pass action=none header.from=bank.example;",
            "mx.shop.example; dkim=pass header.b=abc/d= header.d=bank.example; dmarc/1=pass header.from=bank.example",
        ] {
            assert_eq!(level(&[good]), AuthLevel::DmarcPass, "{good}");
        }
    }

    #[test]
    fn less_than_dmarc_is_less() {
        for aligned in [
            "mx.shop.example; spf=pass smtp.mailfrom=bounce@mail.bank.example",
            "mx.shop.example; dkim=pass header.d=bank.example; dmarc=none header.from=bank.example",
        ] {
            assert_eq!(level(&[aligned]), AuthLevel::SpfDkimAligned, "{aligned}");
        }
        for nothing in [
            "mx.shop.example; none",
            "mx.shop.example; spf=pass smtp.mailfrom=esp.example",
            "mx.shop.example; spf=pass smtp.mailfrom=evilbank.example",
            "mx.shop.example; spf=pass smtp.mailfrom=example",
            "mx.shop.example; dkim=fail header.d=bank.example",
        ] {
            assert_eq!(level(&[nothing]), AuthLevel::Unverified, "{nothing}");
        }
        assert_eq!(level(&["mx.shop.example; dmarc=fail header.from=bank.example"]), AuthLevel::Failed);
    }

    #[test]
    fn a_header_of_another_receiver_is_not_believed() {
        assert_eq!(level(&["mx.evil.example; dmarc=pass header.from=bank.example"]), AuthLevel::Unverified);
        assert_eq!(level(&["mx.shop.example.evil; dmarc=pass header.from=bank.example"]), AuthLevel::Unverified);
        assert_eq!(level(&["(mx.shop.example) evil; dmarc=pass header.from=bank.example"]), AuthLevel::Unverified);
    }

    #[test]
    fn only_the_topmost_header_counts() {
        let ours = "mx.shop.example; dmarc=fail header.from=bank.example";
        let forged = "mx.shop.example; dmarc=pass header.from=bank.example";
        assert_eq!(level(&[ours, forged]), AuthLevel::Failed);
        assert_eq!(level(&["mx.other.example; dmarc=pass header.from=bank.example", ours, forged]), AuthLevel::Failed);
    }

    #[test]
    fn text_in_comments_and_quotes_is_not_a_result() {
        for attack in [
            "mx.shop.example; spf=fail (dmarc=pass header.from=bank.example)",
            "mx.shop.example; spf=fail smtp.mailfrom=\"; dmarc=pass header.from=bank.example\"",
            "mx.shop.example; spf=fail (a (nested) ; dmarc=pass header.from=bank.example)",
            "mx.shop.example; spf=fail (\\) dmarc=pass header.from=bank.example)",
        ] {
            assert_eq!(level(&[attack]), AuthLevel::Unverified, "{attack}");
        }
    }

    #[test]
    fn what_is_said_twice_is_not_believed() {
        for attack in [
            "mx.shop.example; dmarc=pass header.from=bank.example; dmarc=fail header.from=bank.example",
            "mx.shop.example; dmarc=pass header.from=evil.example header.from=bank.example",
            "mx.shop.example; spf=pass smtp.mailfrom=bank.example; spf=pass smtp.mailfrom=bank.example",
            "mx.shop.example; dkim=pass header.d=bank.example; dkim=pass header.d=evil.example",
        ] {
            assert_eq!(level(&[attack]), AuthLevel::Unverified, "{attack}");
        }
    }

    #[test]
    fn a_pass_without_or_with_another_domain_is_none() {
        for attack in [
            "mx.shop.example; dmarc=pass",
            "mx.shop.example; dmarc=pass header.from=evil.example",
            "mx.shop.example; dmarc=pass header.d=bank.example",
            "mx.shop.example; spf=pass",
        ] {
            assert_eq!(level(&[attack]), AuthLevel::Unverified, "{attack}");
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_not_believed() {
        for attack in [
            "mx.shop.example; dmarc=pass header.from=bank.example; (",
            "mx.shop.example; dmarc=pass header.from=bank.example; \"",
            "mx.shop.example; x dmarc=pass header.from=bank.example",
            "mx.shop.example; dmarc=pass header.from=bank.example )",
            "mx.shop.example dmarc=pass header.from=bank.example",
            "mx.shop.example; =pass",
        ] {
            assert_eq!(level(&[attack]), AuthLevel::Unverified, "{attack}");
        }
    }

    #[test]
    fn without_a_trusted_receiver_or_one_from_nothing_is_believed() {
        let text = "Authentication-Results: mx.shop.example; dmarc=pass header.from=bank.example\r\n";
        let headers = Headers::parse(text.as_bytes());
        assert_eq!(judge(&headers, None, Some("bank.example")).auth.level, AuthLevel::Unverified);
        assert_eq!(judge(&headers, Some("mx.shop.example"), None).auth.level, AuthLevel::Unverified);
        let verdict = judge(&headers, Some("mx.shop.example"), Some("bank.example"));
        assert_eq!(verdict.aligned.as_deref(), Some("bank.example"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}|[a-z=;()\"\\\\ ./]{0,80}") {
            let _ = parse(&text);
            prop_assert_ne!(level(&[&format!("mx.shop.example; ({text}")]), AuthLevel::DmarcPass);
        }
    }
}
