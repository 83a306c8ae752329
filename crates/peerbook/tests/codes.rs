//! One-time passwords over real HTTP: set-up, single use, locks, `/login`.
#![allow(missing_docs, reason = "a test")]

mod mailbox;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use mailbox::{Peerbook, code, link, next_token, shown_key};

type Outcome = anyhow::Result<()>;

const FP: &str = "AAAA0000AAAA0000AAAA0000AAAA0000AAAA0000AAAA0000AAAA0000AAAA0000";

/// Codes change every 30 s: where one changed on the way, a test would mean another than it sends.
async fn early_in_a_step() -> anyhow::Result<()> {
    let into = u64::try_from(testkit::time::now_ms())? / 1_000 % 30;
    if into > 22 {
        tokio::time::sleep(Duration::from_secs(30 - into)).await;
    }
    Ok(())
}

/// Sets codes up; the key, and the token to go on with. The code of the step before now is used.
async fn enrol(book: &Peerbook, token: &str) -> anyhow::Result<(String, String)> {
    early_in_a_step().await?;
    let page = book.http.get(&format!("/qr/{token}")).await?.text();
    assert!(page.contains("<svg") && page.contains("otpauth://totp/PeerBook:"), "{page}");
    let key = shown_key(&page)?;
    let again = book.http.get(&format!("/qr/{token}")).await?.text();
    assert_eq!(shown_key(&again)?, key, "the key stays until it is confirmed");
    let wrong = book.form(&format!("/qr/{token}"), &[("otp", "000000")]).await?.text();
    assert!(wrong.contains("One Time Password validation failed, please try again"), "{wrong}");
    let done = book.form(&format!("/qr/{token}"), &[("otp", &code(&key, -1))]).await?;
    assert_eq!(done.status, 303, "{}", done.text());
    let location = done.header("location").to_owned();
    let (path, query) = location.split_once('?').unwrap_or_default();
    assert_eq!(query, "m=One%20Time%20Password%20verified");
    let next = path.strip_prefix("/pb/").unwrap_or_default().to_owned();
    let page = book.http.get(&location).await?.text();
    assert!(page.contains("One Time Password verified"), "{page}");
    Ok((key, next))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_demanded_and_good_once() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    let (key, token) = enrol(&book, &token).await?;
    let set_up = book.http.get(&format!("/qr/{token}")).await?;
    assert_eq!(
        set_up.header("location"),
        "/?m=Your%20QR%20was%20already%20scanned%20and%20verified"
    );
    let path = format!("/pb/{token}");
    for wrong in ["", "123", "999999", &code(&key, -1), &code(&key, 5)] {
        let page = book.form(&path, &[("btn", "update"), (FP, "on"), ("otp", wrong)]).await?.text();
        let refused = page.contains("Wrong One Time Password, please try again");
        assert!(refused, "{wrong}: {page}");
    }
    assert_eq!(book.verified(&token, FP).await?, Some(false));
    let good = code(&key, 0);
    let done = book.form(&path, &[("btn", "update"), (FP, "on"), ("otp", &good)]).await?.text();
    assert!(done.contains("Your PeerBook was updated"), "{done}");
    let next = next_token(&done)?;
    assert_eq!(book.verified(&next, FP).await?, Some(true));
    let path = format!("/pb/{next}");
    let page = book.form(&path, &[("btn", "update"), ("otp", &good)]).await?.text();
    assert!(page.contains("Wrong One Time Password"), "a code is good once");
    let listed = book.form(&format!("/list/{next}"), &[(FP, "x")]).await?;
    assert_eq!(listed.status, 401, "the first release's form knows no codes");
    let off = book.form(&path, &[("btn", "otp-off"), ("otp", &code(&key, 1))]).await?.text();
    assert!(off.contains("One-time codes are off"), "{off}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_locks_one_place_and_not_the_other() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    let (key, token) = enrol(&book, &token).await?;
    let guess = |otp: String| {
        let body =
            serde_json::json!({ "user": "a@example.org", "otp": otp, "fp": "C", "name": "c" });
        let book = &book;
        async move { book.http.send(Method::POST, "/login", &[], Bytes::from(body.to_string())).await }
    };
    for _ in 0..5 {
        let refused = guess("000000".to_owned()).await?;
        assert_eq!((refused.status, refused.text().as_str()), (401, "Invalid Credentials\n"));
    }
    assert_eq!(guess(code(&key, 0)).await?.status, 401, "locked: not even the right one");
    let unknown = serde_json::json!({ "user": "nobody@example.org", "otp": "1", "fp": "C" });
    let unknown = book.http.send(Method::POST, "/login", &[], unknown.to_string().into()).await?;
    assert_eq!((unknown.status, unknown.text().as_str()), (401, "Invalid Credentials\n"));
    let path = format!("/pb/{token}");
    let good = code(&key, 0);
    let done = book.form(&path, &[("btn", "update"), (FP, "on"), ("otp", &good)]).await?.text();
    assert!(done.contains("Your PeerBook was updated"), "{done}");
    let path = format!("/pb/{}", next_token(&done)?);
    for _ in 0..5 {
        book.form(&path, &[("btn", "update"), ("otp", "000000")]).await?;
    }
    let page = book.form(&path, &[("btn", "update"), ("otp", &code(&key, 1))]).await?.text();
    assert!(page.contains("Too many wrong codes"), "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_guesses_at_once_are_five() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    let (_, token) = enrol(&book, &token).await?;
    let path = format!("/pb/{token}");
    let clients: Vec<_> =
        (0..40).map(|_| testkit::http_client::HttpClient::plain(book.service.address())).collect();
    let guesses = clients.iter().map(|client| {
        client.send(Method::POST, &path, &[], Bytes::from_static(b"btn=update&otp=000000"))
    });
    let answers = futures_util::future::try_join_all(guesses).await?;
    let looked_at =
        answers.iter().filter(|answer| answer.text().contains("Wrong One Time")).count();
    assert_eq!(looked_at, 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_mailed_and_approved_by_its_button() -> Outcome {
    let book = Peerbook::start(&[("MAIL_INTERVAL", "1s")]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    let (key, token) = enrol(&book, &token).await?;
    // The bucket of the address is full again one second after the first mail.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let login = serde_json::json!({
        "user": "a@example.org", "otp": code(&key, 0), "fp": "PHONE", "name": "phone" });
    let sent = book.http.send(Method::POST, "/login", &[], login.to_string().into()).await?;
    assert_eq!((sent.status, sent.text().as_str()), (201, "Email sent to a@example.org\n"));
    let mails = book.mail(2).await?;
    let (page, login) = link(&mails[1])?;
    assert_eq!(page, "verify");
    assert_eq!(
        book.http.get(&format!("/pb/{login}")).await?.status,
        303,
        "it opens one peer alone"
    );
    let path = format!("/verify/{login}");
    assert!(book.http.get(&path).await?.text().contains("phone"));
    assert_eq!(book.verified(&token, "PHONE").await?, Some(false));
    let done = book.http.send(Method::POST, &path, &[], Bytes::new()).await?;
    assert!(done.text().contains("Peer verified"), "{}", done.text());
    assert_eq!(book.verified(&token, "PHONE").await?, Some(true));
    assert_eq!(book.http.get(&path).await?.status, 401, "the link is used up");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_may_be_demanded_of_everybody() -> Outcome {
    let book = Peerbook::start(&[("REQUIRE_TOTP", "true")]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    let first = book.http.get(&format!("/pb/{token}")).await?;
    assert_eq!((first.status, first.header("location")), (303, format!("/qr/{token}").as_str()));
    let path = format!("/list/{token}");
    assert_eq!(book.form(&path, &[(FP, "x")]).await?.status, 401);
    let (key, token) = enrol(&book, &token).await?;
    let fields = [("btn", "update"), (FP, "on"), ("otp", &code(&key, 0))];
    let done = book.form(&format!("/pb/{token}"), &fields).await?.text();
    assert_eq!(book.verified(&next_token(&done)?, FP).await?, Some(true));
    Ok(())
}
