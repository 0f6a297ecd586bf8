//! What becomes of a request: verified over its raw bytes, then parsed, then mapped.

use std::sync::Arc;

use adapter::contract::TenantId;
use adapter::contract::envelope::Account;
use adapter::http::{HeaderValue, Method, StatusCode, header};
use adapter::runtime::secret::SecretString;
use adapter::webhook::{Hook, Item, Reply, Request, Siblings, Verdict};

use crate::answer::Proof;
use crate::expr::Eval;
use crate::input::Input;
use crate::mapping::{BUDGET, Place};
use crate::settings::Settings;
use crate::verify::Check;

/// The hook of one account.
pub(crate) struct Endpoint {
    settings: Arc<Settings>,
    tenant: TenantId,
    account: Account,
    /// Absent: nothing is verified. Only for trying a file out.
    checks: Option<Vec<Check>>,
    /// The secrets of each handshake.
    tokens: Vec<Vec<SecretString>>,
}

impl Endpoint {
    /// Reads the secrets.
    ///
    /// # Errors
    /// When one cannot be had.
    pub(crate) fn open(settings: Arc<Settings>, tenant: TenantId, account: Account) -> Result<Self, String> {
        let checks = settings.verify.iter().map(|scheme| scheme.open()).collect::<Result<Vec<_>, _>>()?;
        // Without a check everybody would be let in.
        if checks.is_empty() {
            return Err("nothing verifies its requests".to_owned());
        }
        let tokens = settings.handshakes.iter().map(|handshake| handshake.proof.open()).collect::<Result<_, _>>()?;
        Ok(Self { settings, tenant, account, checks: Some(checks), tokens })
    }

    /// Without secrets: every request is believed. Only for trying a file out.
    pub(crate) fn trusting(settings: Arc<Settings>, tenant: TenantId, account: Account) -> Self {
        let tokens = vec![Vec::new(); settings.handshakes.len()];
        Self { settings, tenant, account, checks: None, tokens }
    }

    fn verify(&self, request: &Request) -> Result<(), (StatusCode, &'static str)> {
        match &self.checks {
            Some(checks) => checks.iter().try_for_each(|check| check.judge(request)),
            None => Ok(()),
        }
    }

    /// A handshake that this is, among those with this kind of proof.
    fn handshake(&self, request: &Request, input: &Input, verified: bool, budget: &mut u64) -> Option<Verdict> {
        let variables = input.variables(&input.body, 0);
        for (handshake, secrets) in self.settings.handshakes.iter().zip(&self.tokens) {
            if matches!(handshake.proof, Proof::Verified) != verified {
                continue;
            }
            let mut eval = Eval { variables: &variables, locals: Vec::new(), budget };
            if eval.holds(&handshake.when) != Ok(true) {
                continue;
            }
            if !verified && self.checks.is_some() && !handshake.proof.holds(secrets, request) {
                return Some(Verdict::refuse(StatusCode::FORBIDDEN, "wrong verify token"));
            }
            return Some(Verdict::Answer(handshake.answer.reply(&mut eval)));
        }
        None
    }

    /// What a page of another site may know.
    fn allow_origin(&self, request: &Request) -> Option<HeaderValue> {
        let origin = request.header("origin")?;
        let known = self.settings.origins.iter().any(|known| known == origin);
        known.then(|| HeaderValue::from_str(origin).ok()).flatten()
    }

    fn judge(&self, request: &Request) -> Verdict {
        let settings = &self.settings;
        if request.suffix != settings.suffix {
            return Verdict::refuse(StatusCode::NOT_FOUND, "unknown path");
        }
        let place = Place {
            tenant: self.tenant.clone(),
            account: self.account.clone(),
            at: request.at,
            verified_by: settings.verified_by,
        };
        let mut input = Input::new(request, self.account.id.as_str(), &settings.hidden_headers);
        let mut budget = BUDGET;
        if let Some(verdict) = self.handshake(request, &input, false, &mut budget) {
            return verdict;
        }
        let answered = !settings.handshakes.is_empty() && request.method == Method::GET;
        if !settings.methods.contains(&request.method) && !answered {
            return Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method");
        }
        if let Err((status, why)) = self.verify(request) {
            return Verdict::refuse(status, why);
        }
        let items = match input.read(request, settings.format) {
            Ok(()) => {
                if let Some(verdict) = self.handshake(request, &input, true, &mut budget) {
                    return verdict;
                }
                if !settings.methods.contains(&request.method) {
                    return Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method");
                }
                settings.mapping.items(&place, &input, &request.body, &mut budget)
            }
            Err(reason) => {
                vec![Item::Dead { account: Some(self.account.id.clone()), reason, raw: request.body.clone() }]
            }
        };
        // The answer has a budget of its own: what was stored is answered.
        let mut budget = BUDGET;
        let variables = input.variables(&input.body, 0);
        let mut eval = Eval { variables: &variables, locals: Vec::new(), budget: &mut budget };
        Verdict::Take { items, reply: settings.answer.reply(&mut eval) }
    }
}

impl Hook for Endpoint {
    fn receive(&self, request: &Request, _accounts: &Siblings) -> Verdict {
        let origin = if self.settings.origins.is_empty() { None } else { self.allow_origin(request) };
        if request.method == Method::OPTIONS && !self.settings.origins.is_empty() {
            let Some(origin) = origin else { return Verdict::refuse(StatusCode::FORBIDDEN, "another origin") };
            return Verdict::Answer(preflight(origin));
        }
        // A browser says from which page it comes; whoever is no browser need not.
        if request.header("origin").is_some() && origin.is_none() && !self.settings.origins.is_empty() {
            return Verdict::refuse(StatusCode::FORBIDDEN, "another origin");
        }
        let mut verdict = self.judge(request);
        if let (Some(origin), Verdict::Take { reply, .. } | Verdict::Answer(reply)) = (origin, &mut verdict) {
            reply.headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin));
            reply.headers.push((header::VARY, HeaderValue::from_static("origin")));
        }
        verdict
    }
}

fn preflight(origin: HeaderValue) -> Reply {
    let fixed = HeaderValue::from_static;
    let headers = vec![
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
        (header::ACCESS_CONTROL_ALLOW_METHODS, fixed("GET, POST, PUT")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, fixed("content-type, authorization")),
        (header::ACCESS_CONTROL_MAX_AGE, fixed("600")),
        (header::VARY, fixed("origin")),
    ];
    Reply { headers, ..Reply::status(StatusCode::NO_CONTENT) }
}
