//! Port-forwards: TCP connections inside a WebSocket, as `v4.channel.k8s.io`.
//!
//! Every message begins with a channel: two for each port, data and errors. The server's first message on each
//! channel is the port's number, little end first.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::refusal::{Outcome, Refusal};
use super::request::{Call, Query};
use crate::sandbox::http::{Answer, Incoming, whole};

const PROTOCOL: &str = "v4.channel.k8s.io";

/// A port that is asked for, and where it is.
struct Wanted {
    port: u16,
    address: Option<SocketAddr>,
}

/// Answers a port-forward to ports that are `found` somewhere; the forwarding itself goes on after the answer.
pub(super) fn port_forward(
    request: Incoming,
    call: &Call,
    found: impl Fn(u16) -> Option<SocketAddr>,
) -> Outcome<Answer> {
    let ports: Vec<_> = call.query.all("ports").flat_map(|list| list.split(',')).collect();
    forward(request, &call.target.name, &ports, found)
}

/// Answers what an API server asks a kubelet for, when a client wants ports of a pod: `port` in the query.
pub(crate) fn forward_to_pod(
    request: Incoming,
    pod: &str,
    found: impl Fn(u16) -> Option<SocketAddr>,
) -> Answer {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    // Clients name the ports themselves, so it is what the API server was asked for.
    let ports: Vec<_> = query
        .all("ports")
        .chain(query.all("port"))
        .flat_map(|list| list.split(','))
        .collect();
    forward(request, pod, &ports, found).unwrap_or_else(|refusal| refusal.answer())
}

fn forward(
    mut request: Incoming,
    pod: &str,
    asked: &[&str],
    found: impl Fn(u16) -> Option<SocketAddr>,
) -> Outcome<Answer> {
    let accept = accepted(request.headers())?;
    let pod = pod.to_owned();
    let mut ports = Vec::new();
    for text in asked {
        let port = text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| {
            Refusal::bad_request(format!(
                "unable to parse {text:?} as a port: must be between 1 and 65535"
            ))
        })?;
        ports.push(Wanted {
            port,
            address: found(port),
        });
    }
    if ports.is_empty() || ports.len() > 100 {
        return Err(Refusal::bad_request("query parameter \"ports\" is required"));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None);
                carry(socket.await, &pod, ports).await;
            }
            Err(error) => tracing::debug!(%error, "a port-forward was not upgraded"),
        }
    });
    let mut answer = Response::new(whole(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    Ok(answer)
}

/// The handshake's answer, if this is a WebSocket of the protocol that is played.
fn accepted(headers: &HeaderMap) -> Outcome<HeaderValue> {
    let word = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let upgrade = word(header::UPGRADE).to_ascii_lowercase();
    if upgrade.is_empty() {
        return Err(Refusal::bad_request("Upgrade request required"));
    }
    let spoken = word(header::SEC_WEBSOCKET_PROTOCOL)
        .split(',')
        .any(|one| one.trim() == PROTOCOL);
    if upgrade != "websocket" || !spoken {
        let why = "port-forward is played over WebSocket with v4.channel.k8s.io only, not over SPDY as kubectl asks; \
                   use `curl --proxy \"$HTTPS_PROXY\" https://HOST/` instead";
        return Err(Refusal::not_played(why));
    }
    let key = word(header::SEC_WEBSOCKET_KEY);
    HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|error| Refusal::bad_request(format!("Sec-WebSocket-Key is not a key: {error}")))
}

/// Carries bytes between the WebSocket and the ports until either side is done.
async fn carry<S>(socket: WebSocketStream<S>, pod: &str, ports: Vec<Wanted>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    let (outbox, mut letters) = mpsc::channel::<Message>(16);
    let mut writers: Vec<Option<OwnedWriteHalf>> = Vec::new();
    for (number, wanted) in ports.iter().enumerate() {
        let Ok(data) = u8::try_from(2 * number) else {
            return;
        };
        let [low, high] = wanted.port.to_le_bytes();
        for channel in [data, data + 1] {
            if sink
                .send(Message::binary(vec![channel, low, high]))
                .await
                .is_err()
            {
                return;
            }
        }
        let connection = match wanted.address {
            Some(address) => TcpStream::connect(address)
                .await
                .map_err(|error| error.to_string()),
            None => Err("connect: connection refused".to_owned()),
        };
        match connection {
            Ok(connection) => {
                let (reader, writer) = connection.into_split();
                writers.push(Some(writer));
                tokio::spawn(pump(reader, data, outbox.clone()));
            }
            Err(error) => {
                writers.push(None);
                let text = format!(
                    "error forwarding port {} to pod {pod}, uid : {error}",
                    wanted.port
                );
                let letter = [&[data + 1], text.as_bytes()].concat();
                if sink.send(Message::binary(letter)).await.is_err() {
                    return;
                }
            }
        }
    }
    // From here only the pumps hold the outbox: when all ports have ended, the letters end too.
    drop(outbox);
    loop {
        tokio::select! {
            letter = letters.recv() => match letter {
                Some(letter) => if sink.send(letter).await.is_err() { return },
                None => break,
            },
            message = stream.next() => {
                let Some(Ok(message)) = message else { break };
                if message.is_close() || deliver(&message, &mut writers).await.is_none() {
                    break;
                }
            }
        }
    }
    // The other side may be gone already.
    drop(sink.close().await);
}

/// Reads a port until it ends.
async fn pump(mut reader: OwnedReadHalf, channel: u8, outbox: mpsc::Sender<Message>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = reader.read(&mut buffer).await else {
            return;
        };
        let letter = [&[channel], buffer.get(..count).unwrap_or_default()].concat();
        if outbox.send(Message::binary(letter)).await.is_err() {
            return;
        }
    }
}

/// Writes a message to its port; `None` if the port does not take it.
async fn deliver(message: &Message, writers: &mut [Option<OwnedWriteHalf>]) -> Option<()> {
    let Message::Binary(bytes) = message else {
        return Some(());
    };
    let Some((channel, data)) = bytes.split_first() else {
        return Some(());
    };
    let number = usize::from(*channel) / 2;
    if let Some(Some(writer)) = writers.get_mut(number).filter(|_| channel % 2 == 0) {
        writer.write_all(data).await.ok()?;
    }
    Some(())
}
