//! What lies where under the data directory.
//!
//! ```text
//! data/             0700, owned by the account that runs the stack
//!   lock            held by the running `up`; its content is that process's id
//!   state.json      what runs where, for `status`
//!   postgres/       the private cluster
//!   run/            its socket
//!   secrets/        0700: passwords, connection strings, the TURN secret; files 0600
//!   tls/            self-signed certificates, one per public name
//!   backups/        dumps
//!   bin/            copies of the programs, only when the account cannot reach the originals
//!   tools/          Postgres unpacked by scripts/up where it could not be installed
//! ```

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::cli::Place;

/// Bytes a socket's path may have; the kernel's limit is 107.
const SOCKET_PATH_MAX: usize = 100;
/// Where root's stacks live when the working directory is nobody else's business.
const SYSTEM_DATA: &str = "/var/lib/switchyard";

/// The data directory and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    data: PathBuf,
    account: Account,
}

impl Layout {
    /// Finds the data directory; makes nothing.
    pub(crate) fn find(place: &Place) -> anyhow::Result<Self> {
        let here = std::env::current_dir().context("cannot tell the current directory")?;
        let chosen = here.join(place.data.as_deref().unwrap_or(Path::new("data")));
        let account = Account::for_data(&chosen, &place.user)?;
        if account.can_reach(&chosen) {
            return Ok(Self { data: chosen, account });
        }
        if place.data.is_some() {
            bail!(
                "the user with id {} cannot reach {}: choose a directory outside root's home",
                account.uid(),
                chosen.display()
            );
        }
        let data = PathBuf::from(SYSTEM_DATA);
        let account = Account::for_data(&data, &place.user)?;
        Ok(Self { data, account })
    }

    /// Makes the directories, all private to the account.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        if let Some(parent) = self.data.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        for directory in [self.data.clone(), self.secrets(), self.tls(), self.backups()] {
            self.make_private(&directory)?;
        }
        Ok(())
    }

    /// Makes one directory 0700 and the account's.
    pub(crate) fn make_private(&self, directory: &Path) -> anyhow::Result<()> {
        let made = fs::DirBuilder::new().mode(0o700).create(directory);
        if let Err(why) = made
            && why.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(why).with_context(|| format!("cannot make {}", directory.display()));
        }
        let now = fs::symlink_metadata(directory)?;
        if !fs::metadata(directory)?.is_dir() {
            bail!("{} is not a directory", directory.display());
        }
        if now.uid() != self.account.uid() {
            self.account.own(directory)?;
        }
        if now.permissions().mode() & 0o777 != 0o700 {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    /// The data directory itself.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Who owns and runs everything.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// The private cluster's directory.
    pub(crate) fn postgres(&self) -> PathBuf {
        self.data.join("postgres")
    }

    /// Passwords and connection strings.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.data.join("secrets")
    }

    /// Certificates.
    pub(crate) fn tls(&self) -> PathBuf {
        self.data.join("tls")
    }

    /// Dumps.
    pub(crate) fn backups(&self) -> PathBuf {
        self.data.join("backups")
    }

    /// The lock file.
    pub(crate) fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// What runs.
    pub(crate) fn state(&self) -> PathBuf {
        self.data.join("state.json")
    }

    /// Copies of programs.
    pub(crate) fn bin(&self) -> PathBuf {
        self.data.join("bin")
    }

    /// Postgres unpacked without root.
    pub(crate) fn tools(&self) -> PathBuf {
        self.data.join("tools")
    }

    /// Directory of Postgres's socket: `data/run`, or a short private one when that path is too
    /// long for a socket.
    pub(crate) fn socket_dir(&self) -> PathBuf {
        let preferred = self.data.join("run");
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|path| path.is_absolute() && !self.account.drops());
        short_enough(preferred, runtime, &std::env::temp_dir(), &self.data)
    }
}

fn short_enough(
    preferred: PathBuf,
    runtime: Option<PathBuf>,
    temporary: &Path,
    data: &Path,
) -> PathBuf {
    let fits = |path: &Path| path.as_os_str().len() + "/.s.PGSQL.5432".len() <= SOCKET_PATH_MAX;
    if fits(&preferred) {
        return preferred;
    }
    let digest = Sha256::digest(data.as_os_str().as_encoded_bytes());
    let name =
        format!("switchyard-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
    let candidates = [runtime, Some(temporary.to_owned()), Some("/tmp".into())];
    let short =
        candidates.into_iter().flatten().map(|base| base.join(&name)).find(|path| fits(path));
    short.unwrap_or(preferred)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_path_keeps_its_socket_inside() {
        let data = Path::new("/srv/data");
        assert_eq!(short_enough(data.join("run"), None, Path::new("/tmp"), data), data.join("run"));
    }

    #[test]
    fn a_long_path_moves_its_socket_to_a_name_of_its_own() {
        let data = PathBuf::from(format!("/srv/{}", "d".repeat(90)));
        let other = PathBuf::from(format!("/srv/{}", "e".repeat(90)));
        let runtime = Some(PathBuf::from("/run/user/1000"));
        let chosen = short_enough(data.join("run"), runtime.clone(), Path::new("/tmp"), &data);
        assert!(chosen.starts_with("/run/user/1000"), "{}", chosen.display());
        assert_ne!(chosen, short_enough(other.join("run"), runtime, Path::new("/tmp"), &other));
        let chosen = short_enough(data.join("run"), None, Path::new("/tmp"), &data);
        assert!(chosen.starts_with("/tmp"), "{}", chosen.display());
    }
}
