//! The metrics of mail.

/// Every metric of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Mails by what they turned out to be.
    Mails,
    /// Connections to the mailbox that ended, by why.
    Reconnects,
    /// Folders whose numbering began anew.
    Rescans,
    /// Answers of the mail server, by class.
    Sends,
    /// Automatic mails that were held back.
    Braked,
}

impl Metric {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mails => "email_mails_total",
            Self::Reconnects => "email_reconnects_total",
            Self::Rescans => "email_rescans_total",
            Self::Sends => "email_smtp_answers_total",
            Self::Braked => "email_braked_total",
        }
    }

    /// Counts one.
    pub(crate) fn count(self, what: &'static str) {
        metrics::counter!(self.name(), "what" => what).increment(1);
    }
}
