//! Accepts connections (plain or TLS, HTTP/1.1 or HTTP/2) and answers their requests.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;

use super::body::Outgoing;
use super::connection::{Connection, Scissors, Stream};
use super::control;
use super::fault::Kind;
use super::misbehave::{Delivery, spoil};
use super::reply::Reply;
use super::service::Asked;
use super::state::Shared;

/// Serves until it is dropped, which also ends running connections.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, control: Option<UnixListener>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                shared.connected();
                connections.spawn(serve_connection(shared.clone(), stream));
            }
            Ok((stream, _)) = accept(control.as_ref()) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| steer(shared.clone(), request));
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(
    listener: Option<&UnixListener>,
) -> std::io::Result<(tokio::net::UnixStream, tokio::net::unix::SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn serve_connection(shared: Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let stream = match shared.acceptor() {
        None => Stream::Plain(stream),
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => Stream::Tls(Box::new(stream)),
            Err(_) => return,
        },
    };
    let scissors = Scissors::default();
    let connection = Connection::new(stream, scissors.clone());
    let service = service_fn(move |request| handle(shared.clone(), scissors.clone(), request));
    let server = auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(connection), service).await;
}

async fn handle(
    shared: Arc<Shared>,
    scissors: Scissors,
    request: Request<Incoming>,
) -> Result<Response<Outgoing>, Infallible> {
    if request.uri().path().starts_with(super::PREFIX) {
        return steer(shared, request).await;
    }
    let version = format!("{:?}", request.version());
    let mut asked = Asked::of(&request);
    let number = shared.arrived(&asked, version);
    let plan = shared.plan(&asked);
    scissors.set(None);
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    if matches!(plan.kind, Some(Kind::Hang)) {
        std::future::pending::<()>().await;
    }
    asked.body = request.into_body().collect().await.map(|all| all.to_bytes().to_vec()).unwrap_or_default();
    let (reply, delivery) = {
        let (service, data) = (&*shared.service, shared.data());
        spoil(plan.kind, service.answer(&data, &asked), &asked, service, &data)
    };
    shared.answered(number, reply.status);
    if let Delivery::Cut { at, reset } = delivery {
        scissors.set(Some((at, reset)));
    }
    Ok(response(reply, delivery))
}

async fn steer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Outgoing>, Infallible> {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let reply = control::steer(&shared, &method, &path, &body.unwrap_or_default());
    Ok(response(reply, Delivery::Whole))
}

fn response(reply: Reply, delivery: Delivery) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::new(reply.body, delivery));
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status).unwrap_or_default();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if !reply.content_type.is_empty() {
        set(CONTENT_TYPE, &reply.content_type);
    }
    for (name, value) in &reply.headers {
        set(HeaderName::from_static(name), value);
    }
    response
}
