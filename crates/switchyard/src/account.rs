//! Who the stack runs as.
//!
//! Postgres refuses to run as root and the services have no reason to: started by root, the
//! launcher gives everything it starts to an ordinary system user. Started by anybody else,
//! everything runs as that user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// The user that owns the data and runs the processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
    /// Whether processes have to be given to it, because the launcher is root.
    drop: bool,
}

impl Account {
    /// The account for a data directory: when root, the owner of existing data, else the user
    /// `name`, which is made when it does not exist.
    pub(crate) fn for_data(data: &Path, name: &str) -> anyhow::Result<Self> {
        let me = rustix::process::geteuid();
        let owner = fs::metadata(data.join("postgres")).or_else(|_| fs::metadata(data)).ok();
        if !me.is_root() {
            if let Some(owner) = owner.filter(|owner| owner.uid() != me.as_raw()) {
                bail!(
                    "{} belongs to the user with id {}: run this as that user or with sudo, or \
                     choose another directory with --data DIR",
                    data.display(),
                    owner.uid()
                );
            }
            let gid = rustix::process::getegid().as_raw();
            return Ok(Self { uid: me.as_raw(), gid, drop: false });
        }
        if let Some(owner) = owner.filter(|owner| owner.uid() != 0) {
            return Ok(Self { uid: owner.uid(), gid: owner.gid(), drop: true });
        }
        let (uid, gid) = match look_up(name)? {
            Some(found) => found,
            None => create(name)?,
        };
        if uid == 0 {
            bail!("Postgres does not run as root: choose another user with --user NAME");
        }
        Ok(Self { uid, gid, drop: true })
    }

    /// Makes `command` run as this account.
    pub(crate) fn apply(&self, command: &mut Command) {
        if self.drop {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives a file or directory to this account.
    pub(crate) fn own(&self, path: &Path) -> anyhow::Result<()> {
        if self.drop {
            chown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("cannot give {} to its user", path.display()))?;
        }
        Ok(())
    }

    /// Whether this account can get to `path` and, for a file, execute it.
    pub(crate) fn can_reach(&self, path: &Path) -> bool {
        !self.drop || path.ancestors().all(|part| self.may_execute(part))
    }

    fn may_execute(&self, path: &Path) -> bool {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let Ok(found) = fs::metadata(path) else { return true }; // not there yet: made by us
        let mode = found.permissions().mode();
        let bit = match (found.uid() == self.uid, found.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        mode & bit != 0
    }

    /// The id, for messages.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// The id of its group.
    pub(crate) fn gid(&self) -> u32 {
        self.gid
    }

    /// Whether the launcher is root and gives everything away.
    pub(crate) fn drops(&self) -> bool {
        self.drop
    }
}

/// `(uid, gid)` of a user.
fn look_up(name: &str) -> anyhow::Result<Option<(u32, u32)>> {
    let output = Command::new("getent").args(["passwd", "--", name]).output();
    let text = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into(),
        _ => fs::read_to_string("/etc/passwd").context("cannot read the list of users")?,
    };
    Ok(parse_passwd(&text, name))
}

fn parse_passwd(text: &str, name: &str) -> Option<(u32, u32)> {
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn create(name: &str) -> anyhow::Result<(u32, u32)> {
    let status = Command::new(program("useradd"))
        .args(["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"])
        .args(["--shell", "/usr/sbin/nologin", "--comment", "Switchyard", "--", name])
        .output();
    let why = match status {
        Ok(output) if output.status.success() => String::new(),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(why) => why.to_string(),
    };
    // Somebody else may have made it in the meantime: what counts is that it exists.
    look_up(name)?.with_context(|| {
        format!("cannot make the system user `{name}` ({why}): useradd --system {name}")
    })
}

/// `useradd` lives where an ordinary user's PATH does not look.
fn program(name: &str) -> PathBuf {
    ["/usr/sbin", "/sbin", "/usr/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let text = "root:x:0:0:root:/root:/bin/sh\nswitchyard2:x:7:8::/:\nswitchyard:x:5:6::/:\n";
        assert_eq!(parse_passwd(text, "switchyard"), Some((5, 6)));
        assert_eq!(parse_passwd(text, "switch"), None);
    }

    #[test]
    fn a_private_directory_cannot_be_reached_by_another_user() {
        let private = std::env::temp_dir().join(format!("account-{}", std::process::id()));
        fs::create_dir_all(&private).unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account { uid: 4_000_000, gid: 4_000_000, drop: true };
        assert!(!stranger.can_reach(&private.join("data")));
        fs::set_permissions(&private, fs::Permissions::from_mode(0o711)).unwrap();
        assert!(stranger.can_reach(&private.join("data")));
        fs::remove_dir_all(&private).unwrap();
    }
}
