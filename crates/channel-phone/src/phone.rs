//! One number of ours: what it is opened with, what it sends, how it fares.

use std::sync::Arc;
use std::time::Duration;

use adapter::channel::Rehearsal;
use adapter::contract::envelope::Account;
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::contract::{SmolStr, TenantId};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::runtime::secret::SecretString;
use adapter::webhook::{Hook, Proven};
use adapter::{AccountFile, BoxFuture, Channel, Context, Fetched, OpenError, PartLedger, Prepared, Problem};
use serde_json::Value;

use crate::api;
use crate::found::Place;
use crate::hook::{Ear, Keys, MADE_UP, prove_twilio, prove_vonage};
use crate::serve::Shelf;
use crate::settings::Settings;
use crate::signer::Signer;
use crate::sms::{self, Number, Texts};
use crate::voice::{self, Desk, Provider, Voice};
use crate::{twilio, vonage};

/// How often the account is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// Checks an account's settings.
///
/// # Errors
/// With every problem, by path.
pub(crate) fn prepare(file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
    let mut settings = match file.provider.as_deref() {
        Some("vonage") => Settings::Vonage(Box::new(file.settings()?)),
        _ => Settings::Twilio(Box::new(file.settings()?)),
    };
    let problem = |(path, why): (String, String)| file.problem(&format!("settings.{path}"), why);
    let mut problems: Vec<Problem> = settings.problems().into_iter().map(problem).collect();
    let number = file.address.as_deref().and_then(Number::ours);
    if number.is_none() {
        problems.push(file.problem("address", "must be our number, like \"+4930123456\", a short code or a name"));
    }
    let Some(number) = number.filter(|_| problems.is_empty()) else { return Err(problems) };
    settings.relative_to(file.source.parent());
    Ok(Box::new(Ready { settings, number }))
}

struct Ready {
    settings: Settings,
    number: Number,
}

/// The provider's API.
#[derive(Debug, Clone)]
pub(crate) enum Api {
    /// Twilio.
    Twilio(twilio::Api),
    /// Vonage.
    Vonage(vonage::Api),
}

/// One number of ours.
struct Line {
    context: Context,
    api: Api,
    voice: Voice,
    texts: Texts,
}

impl Ready {
    fn provider(&self) -> Provider {
        match self.settings {
            Settings::Twilio(_) => Provider::Twilio,
            Settings::Vonage(_) => Provider::Vonage,
        }
    }

    /// What requests are checked against; made-up secrets when nobody is to be trusted less.
    fn keys(&self, trusting: bool) -> Result<Keys, OpenError> {
        let made_up = || vec![SecretString::new(MADE_UP)];
        Ok(match &self.settings {
            Settings::Twilio(settings) => Keys::Twilio {
                tokens: if trusting { made_up() } else { api::resolve(&settings.auth_token, "auth_token")? },
                account_sid: settings.account_sid.clone(),
            },
            Settings::Vonage(settings) => Keys::Vonage(vonage::verify::Keys {
                secrets: match trusting {
                    true => made_up(),
                    false => api::resolve(&settings.signature_secret, "signature_secret")?,
                },
                api_key: settings.api_key.clone(),
                application_id: settings.application_id.clone(),
            }),
        })
    }

    fn desk(&self, place: &Place, address: voice::Address) -> Desk {
        let settings = self.settings.voice().clone();
        Desk {
            number: settings.caller_id.clone().unwrap_or_else(|| SmolStr::from(self.number.as_str())),
            settings,
            tenant: place.tenant.clone(),
            account: place.account.clone(),
            // Vonage can only ask whoever has a number.
            sip_whisper: self.provider() == Provider::Twilio,
            address,
        }
    }

    fn line(self, context: Context) -> Result<Line, OpenError> {
        let place = Place { tenant: context.tenant.clone(), account: context.account.clone() };
        let keys = self.keys(false)?;
        let api = match (&self.settings, &keys) {
            (Settings::Twilio(settings), Keys::Twilio { tokens, .. }) => {
                Api::Twilio(twilio::Api::new(settings, tokens, context.fetcher.clone())?)
            }
            (Settings::Vonage(settings), _) => Api::Vonage(vonage::Api::new(settings, context.fetcher.clone())?),
            (Settings::Twilio(_), _) => return Err(OpenError("keys of another provider".into())),
        };
        let (signer, shelf) = (Signer::new(&context)?, Shelf::new(&context)?);
        let address: voice::Address = {
            let (signer, hooks) = (signer.clone(), context.hooks.clone());
            Arc::new(move |target| hooks.url(&signer.sign(target)))
        };
        let desk = self.desk(&place, Arc::clone(&address));
        let carrier: Arc<dyn voice::Api> = match &api {
            Api::Twilio(api) => Arc::new(api.clone()),
            Api::Vonage(api) => Arc::new(api.clone()),
        };
        let voice = Voice::new(desk, self.provider(), context.clone(), carrier);
        let texts =
            Texts::new(&self.settings, self.number, place, context.clone(), api.clone(), shelf.clone(), address);
        let ear = Ear { keys, signer, voice: voice.clone(), sms: texts.ear(), shelf: Some(shelf) };
        context.hooks.serve(Arc::new(ear))?;
        Ok(Line { context, api, voice, texts })
    }
}

impl Prepared for Ready {
    fn has_hook(&self) -> bool {
        true
    }

    fn rehearse(&self, tenant: &TenantId, account: &Account, trusting: bool) -> Option<Result<Rehearsal, OpenError>> {
        let place = Place { tenant: tenant.clone(), account: account.clone() };
        let rehearsal = self.keys(trusting).map(|keys| {
            let prove = match &keys {
                Keys::Twilio { .. } => prove_twilio,
                Keys::Vonage(_) => prove_vonage,
            };
            let signer = Signer::passing(MADE_UP);
            let address = {
                let signer = signer.clone();
                Arc::new(move |target: &str| signer.sign(target))
            };
            let voice = Voice::rehearsed(self.desk(&place, address), self.provider());
            let ear = Ear { keys, signer, voice, sms: sms::Ear::rehearsed(place, self.settings.sms()), shelf: None };
            let hook: Arc<dyn Hook> = Arc::new(ear);
            let hook = if trusting { Arc::new(Proven { hook, prove }) as Arc<dyn Hook> } else { hook };
            Rehearsal { hook, claims: Vec::new() }
        });
        Some(rehearsal)
    }

    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move { Ok(Arc::new(self.line(context)?) as Arc<dyn Channel>) })
    }
}

impl Api {
    async fn look(&self) -> Result<(), SendFailure> {
        match self {
            Self::Twilio(api) => api.look().await,
            Self::Vonage(api) => api.look().await,
        }
    }
}

impl Line {
    async fn watch(&self) {
        loop {
            match self.api.look().await {
                Ok(()) => self.context.health.set(State::Up, None),
                Err(failure) => {
                    let state = if failure.class == Class::Permanent { State::Down } else { State::Degraded };
                    self.context.health.set(state, Some(failure.to_string()));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Channel for Line {
    fn capabilities(&self) -> Capabilities {
        self.texts.capabilities()
    }

    fn send<'a>(
        &'a self,
        command: &'a OutCommand,
        ledger: &'a mut PartLedger,
    ) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        match &command.call {
            Some(order) => Box::pin(self.voice.order(command, order, ledger, adapter::now())),
            None => Box::pin(self.texts.deliver(command, ledger)),
        }
    }

    fn fetch<'a>(&'a self, source: &'a Value) -> BoxFuture<'a, Result<Fetched, SendFailure>> {
        if source.get("recording").is_some() {
            return Box::pin(self.voice.fetch(source));
        }
        Box::pin(self.texts.fetch(source))
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            tokio::select! {
                () = self.context.shutdown.draining() => {}
                () = self.watch() => {}
                () = self.texts.sweep() => {}
            }
            Ok(())
        })
    }
}
