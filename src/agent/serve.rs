//! HTTP/1 connections of both listeners: time limits, header limits, an orderly end.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// How long a connection may be silent before its next request.
const IDLE: Duration = Duration::from_secs(60);

/// Serves one connection until its end, or until `stop` and the end of the running request.
/// `prepare` looks at each request before `router` gets it, and may answer it instead.
pub(super) async fn serve_connection<S, P>(
    stream: S,
    router: Router,
    prepare: P,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Fn(&mut Request<Body>) -> Result<(), Box<Response<Body>>> + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        let decided = prepare(&mut request);
        let router = router.clone();
        async move {
            let response = match decided {
                Ok(()) => call(router, request).await,
                Err(refusal) => *refusal,
            };
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_headers(64)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn call(router: Router, request: Request<Body>) -> Response<Body> {
    use hyper::service::Service;
    let service = hyper_util::service::TowerToHyperService::new(router);
    match service.call(request).await {
        Ok(response) => response,
        Err(never) => {
            let never: Infallible = never;
            match never {}
        }
    }
    .into_response()
}
