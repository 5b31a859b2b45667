//! The API over HTTP: on a unix socket, or over TLS with a pinned server certificate.

use super::counters::Counters;
use super::deadlines::CONNECT;
use super::tls::{self, ClientIdentity};
use super::transport::{EventStream, Method, Request, Response, Transport, TransportError};
use super::websocket;
use async_trait::async_trait;
use reqwest::header::{ETAG, IF_MATCH};
use reqwest::{Client, ClientBuilder, RequestBuilder};
use std::error::Error as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// More than the longest list of a large cluster; a service gone wrong must not fill the memory.
const LONGEST_ANSWER: usize = 256 * 1024 * 1024;

/// Shorter than the services keep an idle connection, so that a request does not meet one that is
/// just being closed.
const IDLE: Duration = Duration::from_secs(20);

/// The API of one LXD or Incus over HTTP. Over TLS, connections are kept and used again.
///
/// On a unix socket every request has a connection of its own. LXD 5.0 waits for the first byte of
/// a connection there before it accepts the next one, so one that is opened and says nothing stops
/// the whole API; a pool opens such connections, when an old one comes free while a new one is
/// being made.
#[derive(Debug)]
pub struct HttpTransport {
    client: Client,
    /// `http://…` or `https://…`, without a slash at the end.
    base: String,
    /// The endpoint for messages: the socket's path or the address.
    endpoint: String,
    counters: Counters,
}

impl HttpTransport {
    /// The service on a unix socket of this machine.
    ///
    /// # Errors
    /// No client can be made. Nothing is opened before the first request.
    pub fn unix(path: impl AsRef<Path>) -> Result<Self, TransportError> {
        let path = path.as_ref();
        let endpoint = path.display().to_string();
        let builder = Client::builder().unix_socket(path);
        // rustls must be given a provider even where no TLS is spoken.
        let builder = builder
            .tls_backend_preconfigured(tls::none(&endpoint)?)
            .pool_max_idle_per_host(0);
        Self::build(builder, "http://localhost".to_owned(), endpoint)
    }

    /// The service at `address` (`host:port`), which must present the certificate with this
    /// fingerprint (SHA-256 of the DER, hex).
    ///
    /// # Errors
    /// The fingerprint or the identity cannot be used. Nothing is opened before the first request.
    pub fn tls(
        address: &str,
        fingerprint: &str,
        identity: &ClientIdentity,
    ) -> Result<Self, TransportError> {
        let config = tls::pinned(address, fingerprint, identity)?;
        let builder = Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(true);
        Self::build(builder, format!("https://{address}"), address.to_owned())
    }

    fn build(
        builder: ClientBuilder,
        base: String,
        endpoint: String,
    ) -> Result<Self, TransportError> {
        let client = builder
            .http1_only()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| TransportError::Connect {
                endpoint: endpoint.clone(),
                reason: causes(&error),
            })?;
        Ok(HttpTransport {
            client,
            base,
            endpoint,
            counters: Counters::default(),
        })
    }

    /// All requests that went out, events included, and the writes among them.
    pub fn counters(&self) -> (u64, u64) {
        self.counters.read()
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<RequestBuilder, TransportError> {
        let refused = |reason: String| TransportError::Connect {
            endpoint: self.endpoint.clone(),
            reason,
        };
        let url = reqwest::Url::parse(&format!("{}{path}", self.base))
            .map_err(|error| refused(format!("{path:?} is not a path: {error}")))?;
        // A segment `..` would silently become another path.
        if url.path() != path {
            return Err(refused(format!("{path:?} does not name one object")));
        }
        let method = match method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request = self.client.request(method, url);
        if !query.is_empty() {
            request = request.query(query);
        }
        Ok(request)
    }

    async fn exchange(&self, request: Request) -> Result<Response, TransportError> {
        let mut http = self.request(request.method, &request.path, &request.query)?;
        if let Some(body) = &request.body {
            http = http.json(body);
        }
        if let Some(etag) = &request.if_match {
            http = http.header(IF_MATCH, etag);
        }
        let mut response = http.send().await.map_err(|error| self.failed(&error))?;
        let status = response.status().as_u16();
        let etag = response
            .headers()
            .get(ETAG)
            .and_then(|etag| etag.to_str().ok())
            .map(str::to_owned);
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.failed(&error))?
        {
            if bytes.len() + chunk.len() > LONGEST_ANSWER {
                return Err(TransportError::Broken {
                    endpoint: self.endpoint.clone(),
                    reason: format!("the answer is longer than {LONGEST_ANSWER} bytes"),
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = serde_json::from_slice(&bytes).map_err(|error| TransportError::NotJson {
            endpoint: self.endpoint.clone(),
            reason: format!("HTTP status {status}: {error}"),
        })?;
        Ok(Response { status, etag, body })
    }

    fn failed(&self, error: &reqwest::Error) -> TransportError {
        let endpoint = self.endpoint.clone();
        let reason = causes(error);
        if error.is_connect() {
            TransportError::Connect { endpoint, reason }
        } else {
            TransportError::Broken { endpoint, reason }
        }
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        self.counters.count(request.method);
        let deadline = request.deadline;
        match timeout(deadline, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::Timeout {
                endpoint: self.endpoint.clone(),
                seconds: deadline.as_secs(),
            }),
        }
    }

    async fn events(&self, types: &[&str]) -> Result<EventStream, TransportError> {
        self.counters.count(Method::Get);
        let query = [
            ("type", types.join(",")),
            ("all-projects", "true".to_owned()),
        ];
        let request = self.request(Method::Get, "/1.0/events", &query)?;
        websocket::open(request, self.endpoint.clone()).await
    }
}

/// The last cause of a failure, which is the one a person can act on, and never a URL: reqwest
/// puts the URL, with its query, into its own message.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    if error.source().is_none() {
        return if error.is_connect() {
            "cannot connect".to_owned()
        } else {
            "the exchange failed".to_owned()
        };
    }
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
