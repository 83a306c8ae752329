//! Mail and pages over real HTTP: links, the review page, throttles, forged headers, bad input.
#![allow(missing_docs, reason = "a test")]

mod mailbox;

use bytes::Bytes;
use http::Method;
use mailbox::{Peerbook, link, next_token};

type Outcome = anyhow::Result<()>;

const FP: &str = "AAAA0000AAAA0000AAAA0000AAAA0000AAAA0000AAAA0000AAAA0000AAAA0000";
const FP2: &str = "BBBB0000BBBB0000BBBB0000BBBB0000BBBB0000BBBB0000BBBB0000BBBB0000";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_mailed_shown_and_approved_once() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    let page = book.http.get(&format!("/pb/{token}")).await?;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("Waiting for you"), "{}", page.text());
    let again = book.http.get(&format!("/auth/{token}")).await?;
    assert_eq!(again.status, 200, "looking uses nothing up: mail scanners look too");
    let field = format!("do:{FP}");
    let fields = [("form", "2"), ("btn", "update"), (field.as_str(), "on")];
    let done = book.form(&format!("/pb/{token}"), &fields).await?;
    assert!(done.text().contains("Your PeerBook was updated"), "{}", done.text());
    let next = next_token(&done.text())?;
    assert_eq!(book.verified(&next, FP).await?, Some(true));
    assert_ne!(next, token);
    for path in ["/pb/", "/qr/"] {
        let stale = book.http.get(&format!("{path}{token}")).await?;
        assert_eq!(stale.status, 303);
        assert_eq!(stale.header("location"), "/?m=Stale%20token%2C%20please%20try%20again");
    }
    let replayed = book.form(&format!("/pb/{token}"), &[("btn", "update")]).await?;
    assert_eq!(replayed.status, 303);
    assert_eq!(book.verified(&next, FP).await?, Some(true), "the replay changed nothing");
    let name = format!("name:{FP}");
    let fields =
        [("form", "2"), ("btn", "update"), (field.as_str(), "off"), (name.as_str(), "desk")];
    let done = book.form(&format!("/pb/{next}"), &fields).await?.text();
    assert!(done.contains("Kept out") && done.contains("desk"), "{done}");
    let fields = [("form", "2"), ("btn", "update"), (field.as_str(), "remove")];
    let done = book.form(&format!("/pb/{}", next_token(&done)?), &fields).await?.text();
    assert_eq!(book.verified(&next_token(&done)?, FP).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clicks_at_once_are_one_change() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    let path = format!("/pb/{token}");
    let other = testkit::http_client::HttpClient::plain(book.service.address());
    let body = || Bytes::from_static(b"btn=delete&deleteOption=rmPeers");
    let (one, two) = tokio::join!(
        book.http.send(Method::POST, &path, &[], body()),
        other.send(Method::POST, &path, &[], body()),
    );
    let mut statuses = [one?.status, two?.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 303]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_behind_a_link_keep_to_themselves() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let name = "<script>alert(1)</script>\"'><img src=x onerror=x>";
    book.ask("x\" onmouseover=\"x", "a@example.org", name).await?;
    let token = book.token(1).await?;
    for path in ["/pb/", "/auth/", "/qr/", "/list/"] {
        let page = book.http.get(&format!("{path}{token}")).await?;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("access-control-allow-origin"), "", "{path}");
        let policy = page.header("content-security-policy").to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("script") && !policy.contains("unsafe"), "{policy}");
        if path != "/list/" {
            let text = page.text();
            for wrong in ["<script", "<img", "onmouseover=\"", "http://", "https://"] {
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(wrong), "{wrong} in {text}");
            }
        }
    }
    let path = format!("/pb/{token}");
    let preflight = book.http.send(
        Method::OPTIONS,
        &path,
        &[("origin", "https://evil.example"), ("access-control-request-method", "POST")],
        Bytes::new(),
    );
    assert_eq!(preflight.await?.header("access-control-allow-origin"), "");
    for headers in [
        [("sec-fetch-site", "cross-site"), ("x", "x")],
        [("origin", "https://evil.example"), ("x", "x")],
    ] {
        let path = format!("/pb/{token}");
        let refused = book.form_from(&path, &[("btn", "update")], &headers).await?;
        assert_eq!(refused.status, 403, "{headers:?}");
    }
    let own = [("sec-fetch-site", "same-origin"), ("origin", "null")];
    let taken = book.form_from(&format!("/pb/{token}"), &[("btn", "update")], &own).await?;
    assert_eq!(taken.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn links_begin_with_the_configured_url_whatever_a_request_claims() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let forged = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "host=evil.example"),
        ("content-type", "application/json"),
    ];
    let body = serde_json::json!({ "fp": FP, "email": "a@example.org" }).to_string();
    book.http.send(Method::POST, "http://evil.example/verify", &forged, body.into()).await?;
    let mails = book.mail(1).await?;
    assert!(!mails[0].contains("evil"), "{}", mails[0]);
    assert_eq!(link(&mails[0])?.0, "pb");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_link_tells_nothing_and_floods_nobody() -> Outcome {
    let book = Peerbook::start(&[("MAIL_INTERVAL", "1h"), ("MAIL_PER_CLIENT", "8")]).await?;
    book.ask(FP, "known@example.org", "alpha").await?;
    book.mail(1).await?;
    let known = book.form("/hitme", &[("email", "Known@Example.org")]).await?;
    let unknown = book.form("/hitme", &[("email", "unknown@example.org")]).await?;
    assert_eq!((known.status, known.text()), (unknown.status, unknown.text()));
    assert!(known.text().contains("Please check your inbox for your peerbook link"));
    for wrong in ["no address", "a@b\r\nBcc: c@d", "@x.org"] {
        assert_eq!(book.form("/hitme", &[("email", wrong)]).await?.status, 200, "{wrong:?}");
    }
    let none = book.form("/hitme", &[]).await?;
    let told = "{\"msg\": \"Got a hitme request with no email\"}\n";
    assert_eq!((none.status, none.text().as_str()), (400, told));
    assert_eq!(book.http.get("/hitme").await?.status, 200);
    // Every address of a flood is another one: the client is what is limited.
    for number in 0..12 {
        book.ask(&format!("F{number}"), &format!("u{number}@example.org"), "x").await?;
    }
    // Of eight, three were spent on the known address twice and the unknown one: five are left.
    book.mail(6).await?;
    let throttled = book.service.metric("peerbook_mails_throttled_total").await?;
    assert!(throttled >= 8.0, "{throttled}: the second for the known one and seven of the flood");
    let mails = book.mails()?;
    assert_eq!(mails.iter().filter(|mail| mail.contains("To: known@example.org")).count(), 1);
    assert!(!mails.iter().any(|mail| mail.contains("unknown@example.org")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_the_first_release_still_works() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    book.ask(FP2, "a@example.org", "beta").await?;
    let listed = book.http.get(&format!("/list/{token}")).await?.ok()?;
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(listed[0]["user"], "a@example.org");
    let put = book.http.send(Method::PUT, &format!("/list/{token}"), &[], Bytes::new()).await?;
    assert_eq!(put.status, 200);
    let posted = book.http.send(Method::POST, &format!("/auth/{token}"), &[], Bytes::new()).await?;
    assert_eq!((posted.status, posted.text().as_str()), (405, "Method not allowed\n"));
    let done = book.form(&format!("/list/{token}"), &[(FP, "checked")]).await?;
    assert!(done.text().contains("Your changes have been recorded"), "{}", done.text());
    let next = next_token(&done.text())?;
    assert_eq!(book.verified(&next, FP).await?, Some(true));
    assert_eq!(book.verified(&next, FP2).await?, Some(false));
    let done = book.form(&format!("/list/{next}"), &[(FP2, "checked")]).await?;
    let next = next_token(&done.text())?;
    assert_eq!(book.verified(&next, FP).await?, Some(false), "what is not ticked is out");
    assert_eq!(book.verified(&next, FP2).await?, Some(true));
    for (path, told) in [("/list/x", "{\"m\": \"Bad Token\"}\n"), ("/auth/", "Bad Token\n")] {
        let bad = book.http.get(path).await?;
        assert_eq!((bad.status, bad.text().as_str()), (400, told), "{path}");
    }
    let gone = book.form(&format!("/list/{next}"), &[("rmrf", "checked")]).await?;
    assert!(gone.text().contains("All your peers and your email were deleted"));
    assert_eq!(book.http.get(&format!("/auth/{next}")).await?.status, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_that_is_a_field_of_the_form_is_no_tick() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let token = book.token_for("btn", "a@example.org").await?;
    for fp in ["otp", "rmrf", "deleteOption", "del-x"] {
        book.ask(fp, "a@example.org", fp).await?;
    }
    let fields = [("btn", "update"), ("otp", ""), ("del-x", "on")];
    let done = book.form(&format!("/pb/{token}"), &fields).await?.text();
    let next = next_token(&done)?;
    for fp in ["btn", "otp", "rmrf", "deleteOption", "del-x"] {
        assert_eq!(book.verified(&next, fp).await?, Some(false), "{fp}");
    }
    let fields = [("form", "2"), ("btn", "update"), ("do:otp", "on")];
    let done = book.form(&format!("/pb/{next}"), &fields).await?.text();
    assert_eq!(book.verified(&next_token(&done)?, "otp").await?, Some(true));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_removed_and_unknown_buttons_do_nothing() -> Outcome {
    let book = Peerbook::start(&[]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    let path = format!("/pb/{token}");
    for (fields, told) in [
        (vec![("btn", "bogus")], "Bad button, please try again"),
        (vec![("btn", "delete"), ("deleteOption", "<b>")], "Bad delete option: &#60;b&#62;"),
    ] {
        let page = book.form(&path, &fields).await?;
        assert!(page.text().contains(told), "{}", page.text());
    }
    assert_eq!(book.verified(&token, FP).await?, Some(false), "the link is not used up");
    let done = book.form(&path, &[("btn", "delete"), ("deleteOption", "rmPeers")]).await?.text();
    assert!(done.contains("Your peers were removed"), "{done}");
    let next = next_token(&done)?;
    assert_eq!(book.http.get(&format!("/list/{next}")).await?.text(), "null");
    let fields = [("btn", "delete"), ("deleteOption", "rmUser")];
    let done = book.form(&format!("/pb/{next}"), &fields).await?;
    assert_eq!(
        (done.status, done.header("location")),
        (303, "/?m=All%20your%20data%20was%20removed")
    );
    let mut pool = book.database.pool().await?.acquire().await?;
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM peerbook.token) + (SELECT count(*) FROM peerbook.account)",
    )
    .fetch_one(&mut *pool)
    .await?;
    assert_eq!(left, 0, "links go with their user");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_are_answered_as_specified() -> Outcome {
    let book =
        Peerbook::start(&[("TURN_SECRET", "s"), ("TURN_URLS", "turn:t.example:3478")]).await?;
    let home = book.http.get("/?m=Call%200190%20now").await?;
    assert!(home.status == 200 && !home.text().contains("0190"), "no foreign words on the page");
    let stale = book.http.get("/?m=Stale%20token%2C%20please%20try%20again").await?;
    assert!(stale.text().contains("Stale token, please try again"));
    for (method, path, status, told) in [
        (Method::POST, "/", 405, "Method not allowed\n"),
        (Method::GET, "/nope", 404, "Not found\n"),
        (Method::GET, "/login", 405, "Method not allowed\n"),
        (Method::GET, "/support", 405, "Method not allowed\n"),
        (Method::GET, "/turn", 400, "Only the POST method is supported\n"),
        (Method::POST, "/iceservers", 401, "Unauthorized\n"),
        (Method::GET, "/verify/x", 401, "Stale token, please try again\n"),
        (Method::POST, "/login", 400, "Bad JSON\n"),
        (Method::GET, "/authorize/A", 404, "Not found\n"),
    ] {
        let answer = book.http.send(method.clone(), path, &[], Bytes::new()).await?;
        assert_eq!((answer.status, answer.text().as_str()), (status, told), "{method} {path}");
    }
    let large = vec![b'a'; 70_000];
    let token = book.token_for(FP, "a@example.org").await?;
    let answer = book.http.send(Method::POST, &format!("/pb/{token}"), &[], large.into()).await?;
    assert_eq!(answer.status, 413);
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let servers = book.http.send(Method::POST, "/turn", &headers, Bytes::new()).await?.ok()?;
    assert_eq!(servers[0]["urls"][0], "turn:t.example:3478", "{servers}");
    assert_eq!(servers[0]["credentialType"], "password");
    let pool = book.database.pool().await?;
    sqlx::query("UPDATE peerbook.peer SET verified = true, bearer_hash = sha256('secret')")
        .execute(&pool)
        .await?;
    for (bearer, path, status) in [
        ("Bearer secret", format!("/turn?fp={FP}"), 200),
        ("Bearer guess", format!("/turn?fp={FP}"), 401),
        ("Bearer secret", format!("/turn?fp={FP2}"), 401),
        ("Basic secret", format!("/turn?fp={FP}"), 401),
    ] {
        let headers = [("authorization", bearer)];
        let answer = book.http.send(Method::POST, &path, &headers, Bytes::new()).await?;
        assert_eq!(answer.status, status, "{bearer} {path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_pair_comes_where_a_credential_would() -> Outcome {
    let pair = [("TURN_USER", "operator"), ("TURN_PASSWORD", "open sesame")];
    let urls = ("TURN_URLS", "turn:a.example:3478,turns:a.example:5349");
    let book = Peerbook::start(&[pair[0], pair[1], urls]).await?;
    let bearer = format!("Bearer {}", book.token_for(FP, "a@example.org").await?);
    let headers = [("authorization", bearer.as_str())];
    let servers =
        book.http.send(Method::POST, "/iceservers", &headers, Bytes::new()).await?.ok()?;
    for (server, url) in ["turn:a.example:3478", "turns:a.example:5349"].iter().enumerate() {
        let expected = serde_json::json!({
            "urls": [url], "username": "operator", "credential": "open sesame",
            "credentialType": "password"
        });
        assert_eq!(servers[server], expected);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn support_requests_go_to_the_operator_alone() -> Outcome {
    let book = Peerbook::start(&[("SUPPORT_ADDRESS", "ops@example.net")]).await?;
    let report =
        serde_json::json!({ "email": "victim@example.org", "log": "l\u{0}og" }).to_string();
    let taken = book.http.send(Method::POST, "/support", &[], report.clone().into()).await?;
    assert_eq!(taken.status, 201, "{}", taken.text());
    let mails = book.mail(1).await?;
    assert!(mails[0].contains("To: ops@example.net\r\n"), "{}", mails[0]);
    assert!(mails[0].contains("Reply-To: victim@example.org\r\n"), "{}", mails[0]);
    let again = book.http.send(Method::POST, "/support", &[], report.into()).await?;
    assert_eq!((again.status, again.text().as_str()), (429, "Too Many Requests\n"));
    assert!(!again.header("retry-after").is_empty());
    let refused = book.http.send(Method::POST, "/support", &[], Bytes::from_static(b"{}")).await?;
    assert_eq!((refused.status, refused.text().as_str()), (400, "Missing email or log\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn links_end_by_time_and_survive_a_restart() -> Outcome {
    let mut book = Peerbook::start(&[("MAIL_INTERVAL", "1h")]).await?;
    let token = book.token_for(FP, "a@example.org").await?;
    book.service.start_again().await?;
    assert_eq!(book.verified(&token, FP).await?, Some(false));
    book.form("/hitme", &[("email", "a@example.org")]).await?;
    let throttled = book.service.metric("peerbook_mails_throttled_total").await?;
    assert!(throttled >= 1.0, "the throttle outlives a restart");
    let pool = book.database.pool().await?;
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT digest FROM peerbook.token").fetch_all(&pool).await?;
    assert!(kept.iter().all(|digest| digest.len() == 32 && !digest.starts_with(token.as_bytes())));
    sqlx::query("UPDATE peerbook.token SET expires_at = now()").execute(&pool).await?;
    assert_eq!(book.http.get(&format!("/auth/{token}")).await?.status, 400);
    Ok(())
}
