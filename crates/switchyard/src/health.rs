//! `switchyard health`: what an image without a shell or curl asks a service.

use std::time::Duration;

use crate::cli::{EXIT_FAILED, EXIT_OK, HealthArgs};
use crate::{http, output};

/// Asks the admin port at the address whether its service is ready; says why not.
pub(crate) async fn run(args: &HealthArgs) -> anyhow::Result<u8> {
    let within = Duration::from_secs(args.timeout);
    let answer = http::get(args.address, "/readyz", within).await?;
    output::line(String::from_utf8_lossy(&answer.body).trim());
    Ok(if answer.status == 200 { EXIT_OK } else { EXIT_FAILED })
}
