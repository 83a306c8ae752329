use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::*;

/// Says every line and returns the codes of the last line of each answer.
async fn converse(address: SocketAddr, lines: &[&str]) -> Vec<String> {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut codes = Vec::new();
    let mut lines = lines.iter();
    loop {
        let mut answer = String::new();
        if stream.read_line(&mut answer).await.unwrap() == 0 {
            return codes;
        }
        if answer.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        codes.push(answer[..3].to_owned());
        let Some(line) = lines.next() else { return codes };
        stream.write_all(line.as_bytes()).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
}

const MULTIPART: &str = "Subject: Your\r\n book\r\nContent-Type: multipart/alternative;\r\n \
    boundary=\"xyz\"\r\n\r\n--xyz\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\r\nlook: http://127.0.0.1:1/pb/a=\r\nb=2Dc\r\n\
    ..dot\r\n--xyz\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n\
    PGI+aGk8L2I+\r\n--xyz--\r\n.";

#[tokio::test]
async fn a_mail_is_kept_with_its_parts_decoded() {
    let sink = SmtpSink::start().await.unwrap();
    let lines =
        ["EHLO me", "MAIL FROM:<a@x> BODY=8BITMIME", "RCPT TO:<b@x>", "DATA", MULTIPART, "QUIT"];
    let codes = converse(sink.address(), &lines).await;
    assert_eq!(codes, ["220", "250", "250", "250", "354", "250", "221"]);
    let mail = sink.next_to("B@X").await.unwrap();
    assert_eq!((mail.from.as_str(), mail.header("subject")), ("a@x", "Your book"));
    assert_eq!(mail.text(), "look: http://127.0.0.1:1/pb/ab-c\r\n.dot");
    assert_eq!(mail.html(), "<b>hi</b>");
    assert_eq!(
        (mail.link().as_str(), mail.link_path().as_str()),
        ("http://127.0.0.1:1/pb/ab-c", "/pb/ab-c")
    );
    assert!(sink.next_to_within(Duration::ZERO, "b@x").await.unwrap().is_none(), "taken once");
}

#[tokio::test]
async fn rules_are_kept_and_a_busy_server_takes_the_second_attempt() {
    let login = Some(("me".to_owned(), "secret".to_owned()));
    let sink = SmtpSink::with(Rules { login, tls: None }).await.unwrap();
    sink.put_off(1);
    let send = ["MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA", "\r\nhi\r\n."];
    let attempt =
        ["EHLO me", "MAIL FROM:<a@x>", "AUTH PLAIN AG1lAHdyb25n", "AUTH LOGIN", "bWU=", "c2VjcmV0"];
    let lines = [&attempt[..], &send, &send, &["NOPE", "QUIT"]].concat();
    let codes = converse(sink.address(), &lines).await.join(" ");
    let expected = "220 250 530 535 334 334 235 250 250 354 451 250 250 354 250 500 221";
    assert_eq!(codes, expected);
    assert_eq!(sink.all().len(), 1);
    assert_eq!(sink.all()[0].user.as_deref(), Some("me"));
}
