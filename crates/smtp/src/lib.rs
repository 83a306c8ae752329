//! The way to a mail server, as settings describe it: whoever sends mail and whoever checks that
//! mail can be sent decide alike about encryption, login and trust.
//!
//! A login is never sent unencrypted unless somebody says so: with one, encryption is required by
//! default, without one it is used when the server offers it.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, Tokio1Executor};

/// Connections to a mail server.
pub type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Encryption towards the mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Encryption {
    /// None, ever.
    Off,
    /// STARTTLS when the server offers it.
    Offered,
    /// STARTTLS, or no mail.
    Required,
    /// TLS from the first byte, usually on port 465.
    Implicit,
}

/// A mail server and how to reach it.
#[derive(Clone)]
pub struct Server<'s> {
    /// Its name, which its certificate has to be for.
    pub host: &'s str,
    /// Its port.
    pub port: u16,
    /// Name to log in with; an empty one counts as none.
    pub user: Option<&'s str>,
    /// Password to log in with.
    pub password: Option<&'s str>,
    /// Encryption, if somebody has said.
    pub encryption: Option<Encryption>,
    /// File with the certificate (PEM) of an authority to trust besides the public ones.
    pub authority: Option<&'s Path>,
}

/// Why there is no way to a mail server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name without a password.
    #[error("a name for the mail server is set and no password")]
    NoPassword,
    /// The authority's file.
    #[error("cannot read {}", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// What the authority's file holds.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf, #[source] lettre::transport::smtp::Error),
    /// The TLS library.
    #[error("TLS towards the mail server")]
    Tls(#[source] lettre::transport::smtp::Error),
}

impl Server<'_> {
    /// The name to log in with.
    pub fn login(&self) -> Option<&str> {
        self.user.filter(|user| !user.is_empty())
    }

    /// The encryption in force.
    pub fn encryption(&self) -> Encryption {
        let unset = if self.login().is_some() { Encryption::Required } else { Encryption::Offered };
        self.encryption.unwrap_or(unset)
    }

    /// Connections that wait up to `patience` for each of the server's answers and call themselves
    /// `hello`, or by the machine's name.
    ///
    /// # Errors
    /// A name without a password, or a certificate that cannot be read. The server is not asked yet.
    pub fn transport(&self, patience: Duration, hello: Option<&str>) -> Result<Transport, Error> {
        let password = self.password.filter(|password| !password.is_empty());
        let login = match (self.login(), password) {
            (Some(user), Some(password)) => {
                Some(Credentials::new(user.to_owned(), password.to_owned()))
            }
            (Some(_), None) => return Err(Error::NoPassword),
            (None, _) => None,
        };
        let mut builder = Transport::builder_dangerous(self.host)
            .port(self.port)
            .tls(self.tls()?)
            .timeout(Some(patience));
        if let Some(hello) = hello {
            builder = builder.hello_name(ClientId::Domain(hello.to_owned()));
        }
        if let Some(login) = login {
            builder = builder.credentials(login);
        }
        Ok(builder.build())
    }

    fn tls(&self) -> Result<Tls, Error> {
        let encryption = self.encryption();
        if encryption == Encryption::Off {
            return Ok(Tls::None);
        }
        let mut parameters = TlsParameters::builder(self.host.to_owned());
        if let Some(path) = self.authority {
            let pem = std::fs::read(path).map_err(|why| Error::Unreadable(path.to_owned(), why))?;
            let authority = Certificate::from_pem(&pem)
                .map_err(|why| Error::NoCertificate(path.to_owned(), why))?;
            parameters = parameters.add_root_certificate(authority);
        }
        let parameters = parameters.build_rustls().map_err(Error::Tls)?;
        Ok(match encryption {
            Encryption::Off => Tls::None,
            Encryption::Offered => Tls::Opportunistic(parameters),
            Encryption::Required => Tls::Required(parameters),
            Encryption::Implicit => Tls::Wrapper(parameters),
        })
    }
}

impl fmt::Debug for Server<'_> {
    /// Leaves name and password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("encryption", &self.encryption())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server<'s>(user: Option<&'s str>, password: Option<&'s str>) -> Server<'s> {
        let (host, port) = ("mail.example.org", 587);
        Server { host, port, user, password, encryption: None, authority: None }
    }

    #[test]
    fn a_login_is_encrypted_unless_somebody_says_otherwise() {
        assert_eq!(server(None, None).encryption(), Encryption::Offered);
        assert_eq!(server(Some(""), None).encryption(), Encryption::Offered);
        let with = server(Some("me"), Some("s3cret"));
        assert_eq!(with.encryption(), Encryption::Required);
        let off = Server { encryption: Some(Encryption::Off), ..with.clone() };
        assert_eq!(off.encryption(), Encryption::Off);
        assert!(!format!("{with:?}").contains("s3cret"));
    }

    #[test]
    fn what_cannot_work_is_told_before_the_server_is_asked() {
        let patience = Duration::from_secs(1);
        let made = |server: Server<'_>| server.transport(patience, None).err();
        assert!(made(server(Some("me"), Some("s3cret"))).is_none());
        assert!(matches!(made(server(Some("me"), None)), Some(Error::NoPassword)));
        assert!(matches!(made(server(Some("me"), Some(""))), Some(Error::NoPassword)));
        let nowhere = Some(Path::new("/nonexistent/ca.pem"));
        let unreadable = Server { authority: nowhere, ..server(None, None) };
        assert!(matches!(made(unreadable), Some(Error::Unreadable(_, _))));
    }
}
