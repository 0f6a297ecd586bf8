//! One spelling for each address, so that the same address is found again however it was written.
//!
//! | scheme | is |
//! |---|---|
//! | `email` | lower case, the domain in its ASCII form (IDNA); plus-tags and dots by policy |
//! | `tel` | E.164, read with the account's country where the number names none |
//! | anything else | opaque: the provider's own id, never touched |
//!
//! Numbers that providers write in two ways are brought to one: Brazilian mobile numbers with their ninth digit, Mexican
//! ones without the 1 and Argentinian ones without the 9 after the country code (WhatsApp writes these where carriers do
//! not). The normal form is for comparing, not for dialling: what was sent stays in `raw`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use contract::SmolStr;
use contract::call::is_withheld;
use contract::envelope::{Account, Identity};
use contract::policy::Identities;
use phonenumber::country::Id as Country;

/// What programs write where they know nothing. Nobody has such an address.
const NOTHING: &[&str] =
    &["", "-", "anonymous", "n/a", "na", "nil", "none", "null", "private", "restricted", "undefined", "unknown"];

/// The rules of a policy for addresses, ready to be asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    policy: Identities,
    region: Option<Country>,
    blocked: BTreeMap<SmolStr, BTreeSet<SmolStr>>,
}

impl Rules {
    pub(crate) fn new(policy: &Identities) -> Self {
        let region = policy.region.as_deref().and_then(|code| Country::from_str(code).ok());
        let mut rules = Self { policy: policy.clone(), region, blocked: BTreeMap::new() };
        for (scheme, values) in &policy.blocked {
            let values = values.iter().map(|value| rules.value(scheme, value, region)).collect();
            rules.blocked.insert(scheme.clone(), values);
        }
        rules
    }

    /// How many identities of a scheme a customer may have.
    pub(crate) fn most(&self, scheme: &str) -> usize {
        let usual = match scheme {
            "login" => 1,
            "email" | "tel" => 5,
            _ => 64,
        };
        self.policy.most.get(scheme).map_or(usual, |most| *most as usize)
    }

    /// An identity in its normal form, as it came by an account where it came by one. `None`: it says nothing about who
    /// somebody is.
    pub(crate) fn normal(&self, identity: &Identity, account: Option<&Account>) -> Option<Identity> {
        let region = || account.map_or(self.region, |account| self.region_of(account));
        let value = match identity.scheme.as_str() {
            "tel" => self.value("tel", &identity.value, region()),
            scheme => self.value(scheme, &identity.value, None),
        };
        let withheld = identity.scheme == "tel" && is_withheld(&value);
        let nothing = NOTHING.contains(&value.to_ascii_lowercase().as_str());
        let blocked = self.blocked.get(&identity.scheme).is_some_and(|blocked| blocked.contains(&value));
        if withheld || nothing || blocked {
            return None;
        }
        let raw = identity.raw.clone().or_else(|| (value != identity.value).then(|| identity.value.clone()));
        Some(Identity { value, raw, ..identity.clone() })
    }

    fn value(&self, scheme: &str, value: &str, region: Option<Country>) -> SmolStr {
        match scheme {
            "email" => self.email(value),
            "tel" => tel(value, region),
            _ => SmolStr::from(value.trim()),
        }
    }

    /// The country that numbers of an account are from.
    fn region_of(&self, account: &Account) -> Option<Country> {
        if let Some(region) = self.policy.regions.get(&account.id) {
            return Country::from_str(region).ok();
        }
        let own = account.address.as_deref().filter(|address| address.starts_with('+'));
        let own = own.and_then(|address| phonenumber::parse(None, address).ok());
        own.and_then(|number| number.country().id()).or(self.region)
    }

    fn email(&self, value: &str) -> SmolStr {
        let text = value.trim();
        let text = text.strip_prefix("mailto:").unwrap_or(text);
        let text = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
        let Some((local, domain)) = text.rsplit_once('@') else { return SmolStr::from(text.to_lowercase()) };
        let domain = domain.trim_end_matches('.');
        let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
        let mut local = local.to_lowercase();
        if self.policy.ignore_plus_tags
            && let Some((name, _)) = local.split_once('+').filter(|(name, _)| !name.is_empty())
        {
            local = name.to_owned();
        }
        if self.policy.ignore_dots.contains(domain.as_str()) {
            local.retain(|letter| letter != '.');
        }
        SmolStr::from(format!("{local}@{domain}"))
    }
}

/// A telephone number. What is none (a short code, a name as sender) stays as it is, without spaces.
fn tel(value: &str, region: Option<Country>) -> SmolStr {
    let text = value.trim();
    let text = text.strip_prefix("tel:").unwrap_or(text);
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let international = text.starts_with('+') || text.starts_with("00");
    let plus = || format!("+{}", digits.trim_start_matches('0'));
    // Providers leave the plus away; a national number is one where its country says so.
    let readings = if international {
        [Some((None, plus())), None]
    } else {
        [region.map(|region| (Some(region), text.to_owned())), Some((None, plus()))]
    };
    for (region, text) in readings.into_iter().flatten() {
        if let Some(number) = read(region, &text) {
            return number;
        }
    }
    SmolStr::from(text.chars().filter(|letter| !letter.is_whitespace()).collect::<String>())
}

/// A number in its one form; `None`: there can be none such.
fn read(region: Option<Country>, text: &str) -> Option<SmolStr> {
    let number = phonenumber::parse(region, text).ok()?;
    let written = number.format().mode(phonenumber::Mode::E164).to_string();
    match one_form(&written) {
        Some(other) => Some(other),
        None => number.is_valid().then(|| SmolStr::from(written)),
    }
}

/// The form of a number that is written in two ways.
fn one_form(e164: &str) -> Option<SmolStr> {
    let national = |code: &str, len: usize| e164.strip_prefix(code).filter(|rest| rest.len() == len);
    if let Some((area, line)) = national("+55", 10).and_then(|rest| rest.split_at_checked(2)) {
        // Ten digits: of a mobile number, which begins with 6 to 9, the ninth is missing.
        return matches!(line.as_bytes().first(), Some(b'6'..=b'9'))
            .then(|| SmolStr::from(format!("+55{area}9{line}")));
    }
    if let Some(rest) = national("+521", 10) {
        return Some(SmolStr::from(format!("+52{rest}")));
    }
    national("+549", 10).map(|rest| SmolStr::from(format!("+54{rest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(address: Option<&str>) -> Account {
        serde_json::from_value(serde_json::json!({"kind": "sms", "id": "berlin", "address": address})).unwrap()
    }

    fn normal_by(policy: &Identities, scheme: &str, value: &str, address: Option<&str>) -> Option<String> {
        let identity = serde_json::json!({"scheme": scheme, "value": value, "scope": "global"});
        let identity = serde_json::from_value(identity).unwrap();
        Rules::new(policy).normal(&identity, Some(&account(address))).map(|identity| identity.value.to_string())
    }

    fn normal(scheme: &str, value: &str) -> Option<String> {
        normal_by(&Identities::default(), scheme, value, None)
    }

    #[test]
    fn the_same_number_in_two_spellings() {
        let same: &[&[&str]] = &[
            // Brazil's ninth digit, Mexico's 1, Argentina's 9: WhatsApp's way and the carriers'.
            &["+5511987654321", "+55 11 8765-4321", "551187654321", "5511987654321"],
            &["+525512345678", "+5215512345678", "5215512345678"],
            &["+541123456789", "+5491123456789", "5491123456789"],
            &["+4930123456", "0049 30 123456", "4930123456", "tel:+49-30-123456"],
        ];
        for spellings in same {
            for spelling in *spellings {
                assert_eq!(normal("tel", spelling).as_deref(), Some(spellings[0]), "{spelling}");
            }
        }
        // A fixed line in São Paulo has eight digits.
        assert_eq!(normal("tel", "+55 11 2345-6789").as_deref(), Some("+551123456789"));
    }

    #[test]
    fn a_number_without_a_country_is_of_the_accounts() {
        let policy = |text: &str| -> Identities { serde_json::from_str(text).unwrap() };
        let none = Identities::default();
        assert_eq!(normal_by(&none, "tel", "030 123456", Some("+493011111")).as_deref(), Some("+4930123456"));
        let by_region = policy(r#"{"region": "AT"}"#);
        assert_eq!(normal_by(&by_region, "tel", "01 5125666", None).as_deref(), Some("+4315125666"));
        let by_account = policy(r#"{"region": "AT", "regions": {"berlin": "DE"}}"#);
        assert_eq!(normal_by(&by_account, "tel", "030 123456", Some("+43151")).as_deref(), Some("+4930123456"));
        let argentina = policy(r#"{"region": "AR"}"#);
        assert_eq!(normal_by(&argentina, "tel", "011 15-2345-6789", None).as_deref(), Some("+541123456789"));
    }

    #[test]
    fn what_is_no_number_stays_as_it_is() {
        assert_eq!(normal("tel", "262966").as_deref(), Some("262966"));
        assert_eq!(normal("tel", "ACME Shop").as_deref(), Some("ACMEShop"));
    }

    #[test]
    fn mail_addresses() {
        assert_eq!(normal("email", " Ann.Lee+shop@Example.COM ").as_deref(), Some("ann.lee+shop@example.com"));
        assert_eq!(normal("email", "<ann@bücher.example.>").as_deref(), Some("ann@xn--bcher-kva.example"));
        let policy: Identities =
            serde_json::from_str(r#"{"ignore_plus_tags": true, "ignore_dots": ["example.com"]}"#).unwrap();
        let by = |value: &str| normal_by(&policy, "email", value, None);
        assert_eq!(by("Ann.Lee+shop@example.com").as_deref(), Some("annlee@example.com"));
        assert_eq!(by("Ann.Lee+shop@example.org").as_deref(), Some("ann.lee@example.org"));
        assert_eq!(by("+shop@example.org").as_deref(), Some("+shop@example.org"), "nothing would be left");
    }

    #[test]
    fn ids_of_platforms_are_not_touched() {
        assert_eq!(normal("psid", "Ab+C.d").as_deref(), Some("Ab+C.d"));
    }

    #[test]
    fn values_that_belong_to_nobody() {
        for (scheme, value) in [("login", "null"), ("email", " "), ("tel", "Anonymous"), ("tel", "+266696687")] {
            assert_eq!(normal(scheme, value), None, "{scheme} {value}");
        }
        let policy: Identities =
            serde_json::from_str(r#"{"blocked": {"tel": ["+49 30 123456"], "email": ["Info@Example.com"]}}"#).unwrap();
        assert_eq!(normal_by(&policy, "tel", "0049 30 123456", None), None);
        assert_eq!(normal_by(&policy, "email", "info@example.com", None), None);
        assert!(normal_by(&policy, "login", "info@example.com", None).is_some());
    }

    #[test]
    fn what_was_sent_is_kept() {
        let identity = serde_json::json!({"scheme": "email", "value": "Ann@Example.com", "scope": "global"});
        let identity: Identity = serde_json::from_value(identity).unwrap();
        let normal = Rules::default().normal(&identity, None).unwrap();
        assert_eq!(normal.raw.as_deref(), Some("Ann@Example.com"));
        assert_eq!(Rules::default().normal(&normal, None), Some(normal), "normalising again changes nothing");
    }
}
