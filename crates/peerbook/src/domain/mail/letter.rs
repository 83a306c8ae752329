//! What the mails say. Nothing in them comes from a request but a support request's own text.

use std::time::{Duration, UNIX_EPOCH};

use askama::Template;
use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder, MultiPart};

/// Why a mail cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LetterError {
    /// The recipient's address is not one.
    #[error("not a mail address")]
    Address(#[from] lettre::address::AddressError),
    /// A part of it does not fit into a mail.
    #[error("the mail cannot be built")]
    Build(#[from] lettre::error::Error),
    /// A template failed.
    #[error("the mail cannot be rendered")]
    Render(#[from] askama::Error),
}

/// Who sends, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Letterhead {
    pub(crate) from: Mailbox,
    /// Right side of message ids.
    pub(crate) host: String,
}

#[derive(Template)]
#[template(path = "mail_review.txt", escape = "none")]
struct ReviewText<'a> {
    link: &'a str,
    minutes: u64,
}

#[derive(Template)]
#[template(path = "mail_review.html")]
struct ReviewHtml<'a> {
    link: &'a str,
    minutes: u64,
}

#[derive(Template)]
#[template(path = "mail_login.txt", escape = "none")]
struct LoginText<'a> {
    link: &'a str,
    minutes: u64,
}

#[derive(Template)]
#[template(path = "mail_login.html")]
struct LoginHtml<'a> {
    link: &'a str,
    minutes: u64,
}

impl Letterhead {
    /// The link to the review page.
    pub(crate) fn review(
        &self,
        to: &str,
        link: &str,
        ttl: Duration,
        now_ms: i64,
    ) -> Result<Message, LetterError> {
        let minutes = minutes(ttl);
        let text = ReviewText { link, minutes }.render()?;
        let html = ReviewHtml { link, minutes }.render()?;
        let mail = self.begin(now_ms).to(Mailbox::new(None, to.parse()?));
        let mail = mail.subject("Pending changes to your peerbook");
        Ok(mail.multipart(MultiPart::alternative_plain_html(text, html))?)
    }

    /// The link that approves one peer.
    pub(crate) fn login(
        &self,
        to: &str,
        link: &str,
        ttl: Duration,
        now_ms: i64,
    ) -> Result<Message, LetterError> {
        let minutes = minutes(ttl);
        let text = LoginText { link, minutes }.render()?;
        let html = LoginHtml { link, minutes }.render()?;
        let mail = self.begin(now_ms).to(Mailbox::new(None, to.parse()?));
        let mail = mail.subject("A peer is waiting for your approval");
        Ok(mail.multipart(MultiPart::alternative_plain_html(text, html))?)
    }

    /// What a user reports, to the operator; answers go to the user.
    pub(crate) fn support(
        &self,
        to: &Mailbox,
        from: &str,
        body: String,
        now_ms: i64,
    ) -> Result<Message, LetterError> {
        let mail = self.begin(now_ms).to(to.clone()).reply_to(Mailbox::new(None, from.parse()?));
        let mail = mail.subject("Peerbook support request").header(ContentType::TEXT_PLAIN);
        Ok(mail.body(body)?)
    }

    fn begin(&self, now_ms: i64) -> MessageBuilder {
        let id = format!("<{:032x}@{}>", rand::random::<u128>(), self.host);
        let sent = Duration::from_millis(u64::try_from(now_ms).unwrap_or_default());
        // RFC 3834: nobody's holiday notice answers this.
        let auto = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .from(self.from.clone())
            .message_id(Some(id))
            .date(UNIX_EPOCH + sent)
            .raw_header(HeaderValue::new(auto, "auto-generated".to_owned()))
    }
}

fn minutes(ttl: Duration) -> u64 {
    (ttl.as_secs() / 60).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Letterhead {
        let from = "PeerBook <peerbook@book.example>".parse().unwrap();
        Letterhead { from, host: "book.example".to_owned() }
    }

    #[test]
    fn the_review_mail_has_the_link_in_both_parts_plain_first() {
        let link = "https://book.example/pb/0123456789012345678901234567890123456789";
        let made = head().review("a@example.org", link, Duration::from_secs(300), 0).unwrap();
        let text = String::from_utf8(made.formatted()).unwrap();
        assert!(text.contains("multipart/alternative"), "{text}");
        let (plain, html) = (text.find("text/plain").unwrap(), text.find("text/html").unwrap());
        assert!(plain < html, "readers prefer the last part");
        assert!(text[plain..html].contains(link), "{text}");
        // Quoted-printable may break the line and doubles the equals sign.
        assert!(
            text[html..].replace("=\r\n", "").contains(&format!("href=3D\"{link}\"")),
            "{text}"
        );
        assert!(text.contains("Date: Thu, 01 Jan 1970 00:00:00 +0000"), "{text}");
    }

    #[test]
    fn an_address_cannot_smuggle_headers_in() {
        for wrong in ["a@example.org\r\nBcc: b@example.org", "no address", "", "a@example.org, b@c"]
        {
            assert!(head().review(wrong, "x", Duration::ZERO, 0).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_support_request_goes_to_the_operator_and_its_answer_to_the_user() {
        let operator = "ops@example.org".parse().unwrap();
        let made =
            head().support(&operator, "user@example.org", "é\r\n.\r\nx".to_owned(), 0).unwrap();
        let recipients: Vec<_> = made.envelope().to().iter().map(ToString::to_string).collect();
        assert_eq!(recipients, ["ops@example.org"]);
        let text = String::from_utf8(made.formatted()).unwrap();
        assert!(text.contains("Reply-To: user@example.org"), "{text}");
    }
}
