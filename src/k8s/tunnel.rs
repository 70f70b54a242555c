//! A connection to a port of a pod, through the API server: what `kubectl port-forward` opens, over a WebSocket.
//!
//! Each message begins with a channel: even ones carry data, odd ones the kubelet's complaint. The first message on
//! either is the port's number.

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::{Error, Kubernetes, ObjectRef};

/// As much as is on its way in one direction at a time.
const BUFFER: usize = 64 * 1024;
const DATA: u8 = 0;

impl Kubernetes {
    /// Opens a connection to a pod's port. It ends with the stream that is given back, or when the pod ends it.
    ///
    /// # Errors
    /// Any [`Error`] of reading; it needs the right to create `pods/portforward`.
    pub async fn tunnel(&self, pod: &ObjectRef, port: u16) -> Result<DuplexStream, Error> {
        let path = format!("{}/portforward?ports={port}", pod.path());
        let unreachable = |source| Error::Unreachable {
            operation: "port-forward".to_owned(),
            object: pod.to_string(),
            server: self.server().to_owned(),
            source,
        };
        let mut request = Request::get(&path)
            .body(Vec::new())
            .map_err(|error| unreachable(std::sync::Arc::new(error)))?;
        if let Some(header) = self.authorization("port-forward", pod).await? {
            request.headers_mut().insert(header::AUTHORIZATION, header);
        }
        let connection = match self.client().connect(request).await {
            Ok(connection) => connection,
            Err(kube::Error::Api(status)) => {
                let body = serde_json::to_vec(&status).unwrap_or_default();
                return Err(super::status::error(
                    "port-forward",
                    &pod.to_string(),
                    Some(pod),
                    status.code,
                    &body,
                ));
            }
            Err(error) => return Err(unreachable(std::sync::Arc::new(error))),
        };
        let (near, far) = tokio::io::duplex(BUFFER);
        tokio::spawn(pump(connection.into_stream(), far));
        Ok(near)
    }
}

/// Carries bytes both ways until either side ends.
async fn pump<S>(socket: tokio_tungstenite::WebSocketStream<S>, far: DuplexStream)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut send, mut receive) = socket.split();
    let (mut from_near, mut to_near) = tokio::io::split(far);
    let out = async {
        let mut buffer = vec![0; BUFFER / 4];
        while let Ok(length @ 1..) = from_near.read(&mut buffer).await {
            let mut message = Vec::with_capacity(length + 1);
            message.push(DATA);
            message.extend_from_slice(&buffer[..length]);
            if send.send(Message::Binary(Bytes::from(message))).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut begun = false;
        while let Some(Ok(message)) = receive.next().await {
            let Message::Binary(message) = message else {
                continue;
            };
            match message.split_first() {
                // The port's number comes first.
                Some((&DATA, _)) if !begun => begun = true,
                Some((&DATA, data)) if to_near.write_all(data).await.is_err() => return,
                Some((&DATA, _)) => {}
                // The kubelet says why it cannot go on; its first message there is the port's number.
                Some((_, words)) if words.len() > 2 => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = out => {}
        () = back => {}
    }
}
