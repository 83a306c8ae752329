//! The DHT on behalf of clients: nodes that know only each other are one.

use anyhow::{Context as _, ensure};
use ed25519_dalek::{Signer as _, SigningKey};
use proto::mesh::{hex, item};
use testkit::database::Database;
use testkit::http_client::Answer;
use testkit::mesh_client::{MeshClient, Price};
use testkit::process::{Port, Service};

struct Owner {
    key: SigningKey,
    salt: &'static [u8],
}

impl Owner {
    fn address(&self) -> String {
        format!("k={}&salt={}", hex(&self.key.verifying_key().to_bytes()), hex(self.salt))
    }

    async fn put(
        &self,
        client: &MeshClient,
        seq: i64,
        value: &[u8],
        more: &str,
    ) -> anyhow::Result<Answer> {
        let signed = item::signed(self.salt, seq, value);
        self.put_signed(client, seq, value, self.key.sign(&signed).to_bytes(), more).await
    }

    async fn put_signed(
        &self,
        client: &MeshClient,
        seq: i64,
        value: &[u8],
        signature: [u8; 64],
        more: &str,
    ) -> anyhow::Result<Answer> {
        let path = format!("/dht-put?{}&seq={seq}&sig={}{more}", self.address(), hex(&signature));
        let asked = client.post(&path, "").await?;
        let price = Price::of(&asked.json()?["pow"])?;
        let signed = item::signed(self.salt, seq, value);
        let paid = price.pay("POST", "/dht-put", &[&signed, &signature])?;
        client.post(&format!("{path}&{paid}"), value.to_vec()).await
    }

    async fn get(&self, client: &MeshClient, more: &str) -> anyhow::Result<Answer> {
        client.get(&format!("/dht-get?{}{more}", self.address())).await
    }
}

fn code(answer: &Answer) -> anyhow::Result<(u16, String)> {
    let name = answer.json()?["error"].as_str().with_context(|| answer.text())?.to_owned();
    Ok((answer.status, name))
}

#[tokio::test(flavor = "multi_thread")]
async fn items_put_through_one_node_are_got_through_another() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    // All three share a database, as replicas do: what counts here is the DHT.
    let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
    let mut nodes = Vec::new();
    for port in &ports {
        let others = ports.iter().filter(|other| other.number() != port.number());
        let others: Vec<_> = others.map(|other| other.address().to_string()).collect();
        let node = Service::named("mesh")
            .database(&database.url())
            .set("POW_MIN", 4)
            .set("FREE_GETS", 1_000)
            .set("DHT_PORT", port.number())
            .set("DHT_BOOTSTRAP", others.join(","))
            .set("DHT_TIMEOUT", "300ms");
        nodes.push(node.start().await?);
    }
    let clients: Vec<_> = nodes.iter().map(|node| MeshClient::plain(node.address())).collect();
    let [a, b, c] = [&clients[0], &clients[1], &clients[2]];
    let owner = Owner { key: SigningKey::from_bytes(&[42; 32]), salt: b"offer" };

    let put = owner.put(a, 3, b"sdp", "").await?;
    ensure!(put.status == 200 && put.json()?["stored_at"].as_u64() >= Some(1), "{}", put.text());
    for client in [b, c] {
        let got = owner.get(client, "&wait=full").await?.ok()?;
        ensure!(got["seq"] == 3 && got["v"] == "c2Rw" && got["cached"] == false, "{got}");
    }
    let again = owner.get(b, "").await?.ok()?;
    ensure!(again["cached"] == true, "{again}");
    ensure!(code(&owner.get(b, "&seq=3").await?)? == (404, "dht_not_found".into()));

    let lower = owner.put(b, 2, b"old", "").await?;
    ensure!(code(&lower)? == (409, "seq_too_old".into()), "{}", lower.text());
    let other = owner.put(b, 3, b"other", "").await?;
    ensure!(code(&other)? == (409, "seq_conflict".into()), "{}", other.text());
    let cas = owner.put(b, 4, b"new", "&cas=1").await?;
    ensure!(code(&cas)? == (412, "cas_mismatch".into()), "{}", cas.text());
    let forged = owner.put_signed(b, 5, b"forged", [7; 64], "").await?;
    ensure!(code(&forged)? == (400, "bad_signature".into()), "{}", forged.text());
    let fits = owner.put(b, 4, &[b'x'; item::VALUE_MAX], "&cas=3").await?;
    ensure!(fits.status == 200, "{}", fits.text());
    let long = owner.put(b, 5, &[b'x'; item::VALUE_MAX + 1], "").await?;
    ensure!(code(&long)? == (413, "body_too_large".into()), "{}", long.text());

    let plain = Owner { salt: b"", ..owner };
    ensure!(plain.put(a, 1, b"bare", "").await?.status == 200);
    ensure!(plain.get(c, "&wait=full").await?.ok()?["v"] == "YmFyZQ==");
    Ok(())
}
