//! A real browser, driven through chromedriver (W3C WebDriver over HTTP).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::directory::Directory;
use crate::http_client::HttpClient;
use crate::process::{Port, Process};
use crate::time::eventually;

/// A browser on a busy machine may take this long to start or to show something.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// And so long to end.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
/// Names the member that holds an element's id (W3C WebDriver section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Headless Chromium with one window. Dropping it ends the browser.
#[derive(Debug)]
pub struct Browser {
    http: HttpClient,
    session: String,
    _driver: Process,
    port: Port,
    _directory: Directory,
}

/// An element of the page that is shown.
#[derive(Clone, Debug)]
pub struct Element(String);

/// One of the browser's pages.
#[derive(Clone, Debug)]
pub struct Tab(String);

/// The programs a browser needs, or what is missing.
///
/// # Errors
/// Names the Debian package to install.
pub fn installed() -> anyhow::Result<(PathBuf, PathBuf)> {
    Ok((program("chromium", "chromium")?, program("chromedriver", "chromium-driver")?))
}

fn program(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(name));
    places
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed: apt-get install {package}"))
}

impl Browser {
    /// Starts chromedriver and a window of this size in CSS pixels.
    pub async fn start(width: u32, height: u32) -> anyhow::Result<Self> {
        Self::start_with(width, height, false).await
    }

    /// As [`start`](Self::start), for servers whose certificates nobody vouches for.
    pub async fn believing_any_certificate(width: u32, height: u32) -> anyhow::Result<Self> {
        Self::start_with(width, height, true).await
    }

    async fn start_with(width: u32, height: u32, believing: bool) -> anyhow::Result<Self> {
        let (chromium, chromedriver) = installed()?;
        let port = Port::reserve()?;
        let directory = Directory::new("browser")?;
        let mut command = Command::new(chromedriver);
        command.arg(format!("--port={}", port.number()));
        command.env("HOME", directory.path()).env("TMPDIR", directory.path());
        let driver = Process::start("chromedriver", &command, &directory.path().join("log"))?;
        let http = HttpClient::plain(port.address()).new_connections();
        let mut browser =
            Self { http, session: String::new(), _driver: driver, port, _directory: directory };
        let ready = eventually(SHOWN_WITHIN, async || {
            let answer = browser.http.get("/status").await.ok()?.json().ok()?;
            (answer["value"]["ready"] == true).then_some(())
        });
        ready.await.context("chromedriver does not answer")?;
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--disable-gpu".to_owned(),
            // The browser ends with the other end of the pipe, however chromedriver ends.
            "--remote-debugging-pipe".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            // Loopback candidates under their addresses: there is no mDNS to resolve names.
            "--disable-features=WebRtcHideLocalIpsWithMdns".to_owned(),
            format!("--window-size={width},{height}"),
        ];
        if rustix::process::getuid().is_root() {
            arguments.push("--no-sandbox".to_owned());
        }
        let options = json!({"binary": chromium, "args": arguments});
        let wanted = json!({"goog:chromeOptions": options, "acceptInsecureCerts": believing});
        let capabilities = json!({"capabilities": {"alwaysMatch": wanted}});
        let value = browser.call(Method::POST, "/session", &capabilities).await?;
        browser.session = value["sessionId"].as_str().context("a session has an id")?.to_owned();
        browser.emulate(width, height).await?;
        Ok(browser)
    }

    /// Gives the page these dimensions, which windows may be too small for.
    pub async fn emulate(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics).await.map(drop)
    }

    /// Shows pages as for a user who prefers `dark` or `light`.
    pub async fn prefer(&self, scheme: &str) -> anyhow::Result<()> {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &features).await.map(drop)
    }

    async fn devtools(&self, command: &str, parameters: &Value) -> anyhow::Result<Value> {
        let body = json!({"cmd": command, "params": parameters});
        self.command(Method::POST, "goog/cdp/execute", &body).await
    }

    /// Makes one more page; commands still go to the one shown.
    pub async fn new_tab(&self) -> anyhow::Result<Tab> {
        let made = self.command(Method::POST, "window/new", &json!({"type": "tab"})).await?;
        Ok(Tab(made["handle"].as_str().context("a tab has a handle")?.to_owned()))
    }

    /// Sends the commands that follow to this page.
    pub async fn show(&self, tab: &Tab) -> anyhow::Result<()> {
        self.command(Method::POST, "window", &json!({"handle": tab.0})).await.map(drop)
    }

    /// Opens `url` and waits until it is loaded.
    pub async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.command(Method::POST, "url", &json!({"url": url})).await.map(drop)
    }

    /// The address shown.
    pub async fn url(&self) -> anyhow::Result<String> {
        let url = self.command(Method::GET, "url", &Value::Null).await?;
        Ok(url.as_str().unwrap_or_default().to_owned())
    }

    /// The first element that the CSS selector finds; waits for it.
    pub async fn find(&self, selector: &str) -> anyhow::Result<Element> {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = eventually(SHOWN_WITHIN, async || {
            let value = self.command(Method::POST, "element", &wanted).await.ok()?;
            value[ELEMENT].as_str().map(|id| Element(id.to_owned()))
        });
        if let Some(element) = found.await {
            return Ok(element);
        }
        bail!("no {selector} in {}", self.text().await?)
    }

    /// Clicks on it, scrolling to it first.
    pub async fn click(&self, element: &Element) -> anyhow::Result<()> {
        let path = format!("element/{}/click", element.0);
        self.command(Method::POST, &path, &json!({})).await.map(drop)
    }

    /// Types into it.
    pub async fn type_into(&self, element: &Element, text: &str) -> anyhow::Result<()> {
        let path = format!("element/{}/value", element.0);
        self.command(Method::POST, &path, &json!({"text": text})).await.map(drop)
    }

    /// The text that is shown, as the user sees it.
    pub async fn text(&self) -> anyhow::Result<String> {
        let text = self.run("return document.body.innerText", &json!([])).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page shows `part`.
    pub async fn shows(&self, part: &str) -> anyhow::Result<()> {
        let shown = eventually(SHOWN_WITHIN, async || {
            self.text().await.is_ok_and(|text| text.contains(part)).then_some(())
        });
        if shown.await.is_none() {
            bail!("the page does not show {part:?}: {}", self.text().await?);
        }
        Ok(())
    }

    /// Runs the body of a function with these arguments and returns what it returns.
    pub async fn run(&self, script: &str, arguments: &Value) -> anyhow::Result<Value> {
        let body = json!({"script": script, "args": arguments});
        self.command(Method::POST, "execute/sync", &body).await
    }

    /// As [`Browser::run`], until the function calls its last argument, with what it calls it with.
    pub async fn run_async(&self, script: &str, arguments: &Value) -> anyhow::Result<Value> {
        let limits = json!({"script": 30_000});
        self.command(Method::POST, "timeouts", &limits).await?;
        let body = json!({"script": script, "args": arguments});
        self.command(Method::POST, "execute/async", &body).await
    }

    /// The whole page as a PNG, however long it is.
    pub async fn screenshot(&self) -> anyhow::Result<Vec<u8>> {
        let whole = json!({"captureBeyondViewport": true, "format": "png"});
        let value = self.devtools("Page.captureScreenshot", &whole).await?;
        Ok(STANDARD.decode(value["data"].as_str().context("a picture")?)?)
    }

    /// Leaves pictures of the page shown in `directory`, as phones and desktops have it, by day and
    /// by night; then it is shown as to begin with.
    ///
    /// # Errors
    /// When the page is wider than the window; when a picture cannot be taken or written.
    pub async fn pictures(&self, directory: &Path, name: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(directory)?;
        for (form, (width, height)) in [("phone", (390, 844)), ("desktop", (1280, 800))] {
            self.emulate(width, height).await?;
            let wide = "return document.documentElement.scrollWidth";
            let wide = self.run(wide, &json!([])).await?.as_u64().unwrap_or_default();
            ensure!(wide <= u64::from(width), "{name} is {wide} pixels wide on a {form}");
            for scheme in ["light", "dark"] {
                self.prefer(scheme).await?;
                let file = directory.join(format!("{name}-{form}-{scheme}.png"));
                std::fs::write(file, self.screenshot().await?)?;
            }
        }
        self.prefer("light").await
    }

    async fn command(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(method, &format!("/session/{}/{path}", self.session), body).await
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let json = [("content-type", "application/json")];
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = self.http.send(method, path, &json, body).await?;
        let mut value = answer.json()?;
        let value = value["value"].take();
        ensure!(answer.status == 200, "{path}: {} {}", value["error"], value["message"]);
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Answered when the browser has ended, and its directory can go. Without an answer the
        // pipe's end ends it.
        let request = format!(
            "DELETE /session/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            self.session
        );
        if let Ok(mut stream) = TcpStream::connect_timeout(&self.port.address(), ENDED_WITHIN) {
            let _ = stream.set_read_timeout(Some(ENDED_WITHIN));
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read(&mut [0; 512]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_is_opened_read_and_clicked() -> anyhow::Result<()> {
        if let Err(missing) = installed() {
            eprintln!("SKIPPED: {missing}");
            return Ok(());
        }
        let browser = Browser::start(390, 844).await?;
        let page = "data:text/html,<meta name=viewport content=width=device-width><p>hello</p><button onclick=\"this.textContent='bye'\">x</button>";
        browser.open(page).await?;
        browser.shows("hello").await?;
        browser.click(&browser.find("button").await?).await?;
        browser.shows("bye").await?;
        assert_eq!(browser.run("return arguments[0] + 1", &json!([1])).await?, 2);
        assert_eq!(browser.run("return innerWidth", &json!([])).await?, 390);
        assert!(browser.screenshot().await?.starts_with(b"\x89PNG"));
        Ok(())
    }
}
