//! The settings of one number: the `[settings]` table of its file, by provider.

use std::path::Path;

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::{Http, api_base_problem, relative_to, secrets_problem};
use crate::{sms, voice};

/// What an operator may set for a number at Twilio. `config/channels/phone-twilio.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Twilio {
    /// The account (or subaccount) that the number belongs to.
    pub(crate) account_sid: String,
    /// The account's auth token. It signs what comes: one, or two while it is changed; the first sends, unless there is
    /// an API key.
    pub(crate) auth_token: Vec<Secret>,
    /// The key that sends, instead of the auth token.
    #[serde(default)]
    pub(crate) api_key: Option<ApiKey>,
    /// The messaging service that texts go out by, instead of the number.
    #[serde(default)]
    pub(crate) messaging_service_sid: Option<String>,
    /// Where the API is.
    #[serde(default = "twilio_base")]
    pub(crate) api_base: String,
    /// How it is called.
    #[serde(default)]
    pub(crate) http: Http,
    /// Text messages.
    #[serde(default)]
    pub(crate) sms: sms::Settings,
    /// Calls.
    #[serde(default)]
    pub(crate) voice: voice::Settings,
}

/// An API key of Twilio's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKey {
    /// Its name.
    pub(crate) sid: String,
    /// Its secret.
    pub(crate) secret: Secret,
}

/// What an operator may set for a number at Vonage. `config/channels/phone-vonage.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vonage {
    /// The account's key: who sends texts, and whose webhooks are taken.
    pub(crate) api_key: String,
    /// Its secret; absent: texts are not sent.
    #[serde(default)]
    pub(crate) api_secret: Option<Secret>,
    /// What webhooks are signed with: one, or two while it is changed.
    pub(crate) signature_secret: Vec<Secret>,
    /// The application that the number's calls belong to.
    #[serde(default)]
    pub(crate) application_id: Option<String>,
    /// Its private key, in PEM; absent: nothing can be ordered of a call.
    #[serde(default)]
    pub(crate) private_key: Option<Secret>,
    /// Where the API for calls is.
    #[serde(default = "vonage_base")]
    pub(crate) api_base: String,
    /// Where the API for texts is.
    #[serde(default = "vonage_sms_base")]
    pub(crate) sms_base: String,
    /// How they are called.
    #[serde(default)]
    pub(crate) http: Http,
    /// Text messages.
    #[serde(default)]
    pub(crate) sms: sms::Settings,
    /// Calls.
    #[serde(default)]
    pub(crate) voice: voice::Settings,
}

fn twilio_base() -> String {
    "https://api.twilio.com".to_owned()
}

fn vonage_base() -> String {
    "https://api.nexmo.com".to_owned()
}

fn vonage_sms_base() -> String {
    "https://rest.nexmo.com".to_owned()
}

/// A number's settings.
#[derive(Debug, Clone)]
pub(crate) enum Settings {
    /// At Twilio.
    Twilio(Box<Twilio>),
    /// At Vonage.
    Vonage(Box<Vonage>),
}

/// What is found wrong, by path within the settings.
struct Problems(Vec<(String, String)>);

impl Problems {
    fn check(&mut self, path: &str, problem: Option<&str>) {
        self.0.extend(problem.map(|problem| (path.to_owned(), problem.to_owned())));
    }

    fn section(&mut self, name: &str, found: Vec<(String, String)>) {
        self.0.extend(found.into_iter().map(|(path, why)| (format!("{name}.{path}"), why)));
    }
}

/// Whether this is one of Twilio's ids of that kind.
fn is_sid(kind: &str, text: &str) -> bool {
    text.strip_prefix(kind).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Twilio {
    fn problems(&self) -> Vec<(String, String)> {
        let mut found = Problems(Vec::new());
        let sid = |kind: &str, text: &str| !is_sid(kind, text);
        found.check("account_sid", sid("AC", &self.account_sid).then_some("must be AC and 32 hexadecimal digits"));
        found.check("auth_token", secrets_problem(&self.auth_token));
        let key = self.api_key.as_ref().is_some_and(|key| sid("SK", &key.sid));
        found.check("api_key.sid", key.then_some("must be SK and 32 hexadecimal digits"));
        let service = self.messaging_service_sid.as_ref().is_some_and(|service| sid("MG", service));
        found.check("messaging_service_sid", service.then_some("must be MG and 32 hexadecimal digits"));
        found.check("api_base", api_base_problem(&self.api_base));
        self.http.problems(&mut found.0);
        found.section("sms", self.sms.problems());
        found.section("voice", self.voice.problems());
        found.0
    }
}

impl Vonage {
    fn problems(&self) -> Vec<(String, String)> {
        let mut found = Problems(Vec::new());
        let key = !self.api_key.is_empty() && self.api_key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        found.check("api_key", (!key).then_some("must be the account's key"));
        found.check("signature_secret", secrets_problem(&self.signature_secret));
        let application = self.application_id.as_ref();
        let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        let right = application.is_none_or(|id| id.len() == 36 && id.bytes().all(plain));
        found.check("application_id", (!right).then_some("must be the application's id"));
        let alone = self.private_key.is_some() && application.is_none();
        found.check("application_id", alone.then_some("is missing: the private key is an application's"));
        let nothing = self.private_key.is_none() && self.api_secret.is_none();
        let missing = "is missing, and private_key is too: nothing could be sent";
        found.check("api_secret", nothing.then_some(missing));
        found.check("api_base", api_base_problem(&self.api_base));
        found.check("sms_base", api_base_problem(&self.sms_base));
        self.http.problems(&mut found.0);
        found.section("sms", self.sms.problems());
        found.section("voice", self.voice.problems());
        found.0
    }
}

impl Settings {
    /// Everything that is wrong, by path.
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        match self {
            Self::Twilio(settings) => settings.problems(),
            Self::Vonage(settings) => settings.problems(),
        }
    }

    /// Takes relative paths from `dir`.
    pub(crate) fn relative_to(&mut self, dir: Option<&Path>) {
        match self {
            Self::Twilio(settings) => {
                let key = settings.api_key.as_mut().map(|key| &mut key.secret);
                relative_to(settings.auth_token.iter_mut().chain(key), dir);
            }
            Self::Vonage(settings) => {
                let others = settings.api_secret.iter_mut().chain(settings.private_key.iter_mut());
                relative_to(settings.signature_secret.iter_mut().chain(others), dir);
            }
        }
    }

    /// Text messages.
    pub(crate) fn sms(&self) -> &sms::Settings {
        match self {
            Self::Twilio(settings) => &settings.sms,
            Self::Vonage(settings) => &settings.sms,
        }
    }

    /// Calls.
    pub(crate) fn voice(&self) -> &voice::Settings {
        match self {
            Self::Twilio(settings) => &settings.voice,
            Self::Vonage(settings) => &settings.voice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit;

    #[test]
    fn the_examples_are_in_order() {
        assert_eq!(kit::example("twilio"), Vec::<String>::new());
        assert_eq!(kit::example("vonage"), Vec::<String>::new());
    }

    fn refused(text: &str) -> Vec<String> {
        let table = adapter::toml::from_str(&format!("kind = \"phone\"\naccount = \"a\"\n{text}")).unwrap();
        let file = adapter::AccountFile::from_table(&table, Path::new("x.toml")).unwrap();
        let problems = crate::register().prepare(&file).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn what_is_wrong_is_told_by_path() {
        assert_eq!(refused("provider = \"sinch\""), ["provider"]);
        assert_eq!(refused(""), ["provider"]);
        let twilio = "provider = \"twilio\"\n[settings]\naccount_sid = \"AC1\"\nauth_token = []\n\
            messaging_service_sid = \"x\"\napi_base = \"http://api.twilio.com\"\nsms = { join_seconds = 1 }\n\
            voice = { language = \"german\" }";
        let wanted = [
            "settings.account_sid",
            "settings.auth_token",
            "settings.messaging_service_sid",
            "settings.api_base",
            "settings.sms.join_seconds",
            "settings.voice.language",
            "address",
        ];
        assert_eq!(refused(twilio), wanted);
        let vonage = "provider = \"vonage\"\naddress = \"4319012345\"\n[settings]\napi_key = \"\"\n\
            signature_secret = [{ env = \"A\" }, { env = \"B\" }, { env = \"C\" }]\napplication_id = \"x\"";
        let wanted = [
            "settings.api_key",
            "settings.signature_secret",
            "settings.application_id",
            "settings.api_secret",
            "address",
        ];
        assert_eq!(refused(vonage), wanted);
        let unknown = "provider = \"vonage\"\naddress = \"+4319012345\"\n[settings]\napi_key = \"a\"\n\
            api_secret = { env = \"S\" }\nsignature_secret = [{ env = \"A\" }]\nsms = { sendr = \"x\" }";
        assert_eq!(refused(unknown), ["settings.sms.sendr"]);
    }
}
