//! Secrets: generated once, kept in files only their owner reads.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::account::Account;

/// Fresh random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// 192 random bits as text without characters any format would have to escape.
fn generate() -> String {
    URL_SAFE_NO_PAD.encode(random::<24>())
}

/// The secret in `path`, generated when there is none.
pub(crate) fn keep(path: &Path, account: &Account) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => make(path, account),
        Err(why) if why.kind() == ErrorKind::NotFound => make(path, account),
        Err(why) => Err(why).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn make(path: &Path, account: &Account) -> anyhow::Result<String> {
    let secret = generate();
    write_private(path, secret.as_bytes(), account)?;
    Ok(secret)
}

/// Writes a file of mode 0600 that is either all there or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8], account: &Account) -> anyhow::Result<()> {
    let attempt = || {
        let draft = path.with_added_extension("new");
        match fs::remove_file(&draft) {
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(why.into()),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        account.own(&draft)?;
        fs::rename(&draft, path)?;
        anyhow::Ok(())
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let directory = std::env::temp_dir().join(format!("secrets-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let account = Account::for_data(Path::new("/nonexistent"), "nobody").unwrap();
        let path = directory.join("secret");
        let first = keep(&path, &account).unwrap();
        assert!(first.len() >= 32);
        assert_eq!(keep(&path, &account).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&directory).unwrap();
    }
}
