//! The settings by which a service learns where TURN is and what coturn takes there.

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::Source;

/// Where TURN is, and what coturn takes there. How long a credential is good for is each service's
/// own setting.
///
/// Holding one is the proof that the settings do not contradict each other: reading them fails
/// when both a secret and a pair are set, or half a pair.
#[derive(Clone, Debug, Default)]
pub struct TurnArgs {
    /// Where the credentials come from; without it none are handed out.
    pub source: Option<Source>,
    /// `turn:host:3478?transport=udp` and the like.
    pub urls: Vec<String>,
}

/// The flags as they are written. What comes from the environment looks to clap like a default, so
/// its own rules for what goes together would see half of it.
#[derive(Args)]
#[command(next_help_heading = "TURN")]
struct TurnFlags {
    /// Secret shared with coturn (its static-auth-secret): clients get credentials that expire.
    #[arg(
        long,
        env = "TURN_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        requires = "turn_urls"
    )]
    turn_secret: Option<String>,
    /// Name that coturn has a static password for (its user=NAME:PASSWORD), instead of a secret:
    /// clients get this name and password, which never expire.
    #[arg(long, env = "TURN_USER", value_name = "NAME", requires = "turn_urls")]
    turn_user: Option<String>,
    /// The password of that name.
    #[arg(long, env = "TURN_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    turn_password: Option<String>,
    /// URLs of the TURN server, such as turn:host:3478?transport=tcp.
    #[arg(long, env = "TURN_URLS", value_name = "URL", value_delimiter = ',')]
    turn_urls: Vec<String>,
}

impl TurnFlags {
    fn checked(self) -> Result<TurnArgs, &'static str> {
        let source = match (self.turn_secret, self.turn_user, self.turn_password) {
            (None, None, None) => None,
            (Some(secret), None, None) => Some(Source::Secret(secret)),
            (None, Some(user), Some(password)) => Some(Source::Pair { user, password }),
            (Some(_), ..) => {
                return Err("a TURN secret and a static TURN user or password are both set; \
                            coturn takes one of the two: keep --turn-secret, or --turn-user with \
                            --turn-password");
            }
            (None, Some(_), None) => return Err("--turn-user is set and --turn-password is not"),
            (None, None, Some(_)) => return Err("--turn-password is set and --turn-user is not"),
        };
        Ok(TurnArgs { source, urls: self.turn_urls })
    }
}

impl Args for TurnArgs {
    fn augment_args(command: Command) -> Command {
        TurnFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        TurnFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for TurnArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let checked = TurnFlags::from_arg_matches(matches)?.checked();
        checked.map_err(|why| clap::Error::raw(ErrorKind::ArgumentConflict, format!("{why}\n")))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<TurnArgs, clap::Error> {
        let command = TurnArgs::augment_args(Command::new("test")).no_binary_name(true);
        TurnArgs::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    #[test]
    fn nothing_a_secret_or_a_pair_is_a_source() {
        let urls = "--turn-urls=turn:a:3478,turns:a:5349";
        assert_eq!(read(&[]).unwrap().source, None);
        let secret = read(&["--turn-secret=s", urls]).unwrap();
        assert_eq!(secret.source, Some(Source::Secret("s".to_owned())));
        assert_eq!(secret.urls, ["turn:a:3478", "turns:a:5349"]);
        let pair = read(&["--turn-user=u", "--turn-password=p", urls]).unwrap();
        let expected = Source::Pair { user: "u".to_owned(), password: "p".to_owned() };
        assert_eq!(pair.source, Some(expected));
    }

    #[test]
    fn what_contradicts_itself_is_refused_without_showing_it() {
        let (secret, user, password) =
            ("--turn-secret=hush", "--turn-user=u", "--turn-password=hush");
        for (args, says) in [
            (&[secret, user, password][..], "both set"),
            (&[secret, password], "both set"),
            (&[secret, user], "both set"),
            (&[user], "--turn-password is not"),
            (&[password], "--turn-user is not"),
        ] {
            let refused = read(&[args, &["--turn-urls=turn:a"]].concat()).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "a wrong setting");
            let said = refused.to_string();
            assert!(said.contains(says) && !said.contains("hush"), "{args:?}: {said}");
        }
    }
}
