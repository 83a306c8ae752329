use super::*;

const ABOUT: About = About {
    name: "relay",
    about: "A relay.",
    listen: "[::]:4000",
    admin: "127.0.0.1:14000",
    aliases: &[("PORT", "listen_port"), ("OLD_LOGLEVEL", "log")],
    arguments: &[("-bl", "--body-limit"), ("--old-strict", "--strict")],
};

#[derive(Args, Debug)]
struct Config {
    /// Where to listen.
    #[arg(long, env = "LISTEN")]
    listen: String,
    /// Port alone.
    #[arg(long, env = "LISTEN_PORT")]
    listen_port: Option<u16>,
    /// Largest body.
    #[arg(long, env = "BODY_LIMIT", default_value = "20mb", value_parser = crate::size::parse)]
    body_limit: u64,
    /// Database.
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    /// A switch.
    #[arg(long, env = "STRICT")]
    strict: bool,
    /// A list.
    #[arg(long, env = "TRUSTED", value_delimiter = ',')]
    trusted: Vec<String>,
}

fn read(argv: &[&str], env: &[(&str, &str)]) -> Result<(Common, Config), clap::Error> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
    parse(&ABOUT, ["relay"].iter().chain(argv).map(OsString::from), &env)
}

#[test]
fn flags_win_over_variables_and_variables_over_defaults() {
    let url = ("DATABASE_URL", "postgres://plain");
    let (common, config) = read(&[], &[url]).expect("the shared name is enough");
    assert_eq!(config.listen, "[::]:4000");
    assert_eq!(common.admin_listen, "127.0.0.1:14000");
    assert_eq!((config.body_limit, config.strict), (20_971_520, false));
    assert_eq!(config.database_url, "postgres://plain");

    let env = [
        url,
        ("RELAY_DATABASE_URL", "postgres://own"),
        ("RELAY_BODY_LIMIT", "1mb"),
        ("RELAY_STRICT", "yes"),
        ("RELAY_TRUSTED", "10.0.0.0/8,::1"),
        ("RELAY_DRAIN_LAG", "250ms"),
        ("PORT", "4001"),
        ("RELAY_PORT", "tcp://10.0.0.7:4000"),
    ];
    let (common, config) = read(&["--body-limit", "2mb"], &env).expect("all known");
    assert_eq!(config.database_url, "postgres://own");
    assert_eq!((config.body_limit, config.strict), (2_097_152, true));
    assert_eq!(config.trusted, ["10.0.0.0/8", "::1"]);
    assert_eq!(config.listen_port, Some(4001));
    assert_eq!(common.drain_lag, Duration::from_millis(250));
}

#[test]
fn an_empty_variable_counts_as_unset_and_a_required_setting_is_asked_for() {
    let refused = read(&[], &[("RELAY_DATABASE_URL", "")]).expect_err("nothing names a database");
    assert!(refused.to_string().contains("--database-url"), "{refused}");
}

#[test]
fn a_file_gives_the_value_without_its_last_line_end() {
    let path = std::env::temp_dir().join(format!("settings-{}", std::process::id()));
    std::fs::write(&path, "postgres://from-a-file\n").expect("the directory can be written");
    let path = path.to_str().expect("a plain name");
    let (_, config) = read(&[], &[("RELAY_DATABASE_URL_FILE", path)]).expect("the file is there");
    assert_eq!(config.database_url, "postgres://from-a-file");

    let both = [("RELAY_DATABASE_URL", "postgres://"), ("RELAY_DATABASE_URL_FILE", path)];
    assert!(read(&[], &both).expect_err("which one?").to_string().contains("both set"));
    std::fs::remove_file(path).expect("it was just written");
    let gone = read(&[], &[("DATABASE_URL_FILE", path)]).expect_err("no such file any more");
    assert!(gone.to_string().contains("DATABASE_URL_FILE: cannot read"), "{gone}");
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_name() {
    let env = [("DATABASE_URL", "postgres://"), ("RELAY_BODY_LIMT", "1mb")];
    let refused = read(&[], &env).expect_err("a typing error");
    assert!(refused.to_string().contains("did you mean RELAY_BODY_LIMIT?"), "{refused}");
    assert_eq!(refused.exit_code(), 2);
}

#[test]
fn help_names_the_variables_and_never_shows_their_values() {
    let env = [("RELAY_DATABASE_URL", "postgres://user:secret@host")];
    let help = read(&["--help"], &env).expect_err("help is not a run").to_string();
    assert!(help.starts_with("A relay.\n"), "{help}");
    assert!(help.contains("[env: RELAY_BODY_LIMIT]"), "{help}");
    assert!(help.contains("[default: 20mb]"), "{help}");
    assert!(help.contains("Process:"), "{help}");
    assert!(!help.contains("secret"), "{help}");
}

#[test]
fn arguments_of_an_older_program_are_translated() {
    let url = ("DATABASE_URL", "postgres://plain");
    let (_, config) = read(&["-bl", "5", "--old-strict"], &[url]).unwrap();
    assert_eq!((config.body_limit, config.strict), (5, true));
    assert!(read(&["-bl=5"], &[url]).is_err(), "values are words of their own");
}

#[test]
fn a_number_is_a_log_level_where_it_was_one() {
    let url = ("DATABASE_URL", "postgres://plain");
    for (old, level) in [("0", "error"), ("3", "debug"), ("warn", "warn")] {
        let (common, _) = read(&[], &[url, ("OLD_LOGLEVEL", old)]).unwrap();
        assert_eq!(common.log, level);
    }
}
