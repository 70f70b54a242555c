//! What go-plugin expects beside the plugin's own service. Only `Shutdown` does something.
//!
//! The two streams are opened by every host and used by none of Terraform's: they stay open and silent, because
//! whatever is sent shows up as a warning in the practitioner's log. They end with the server.

use std::collections::BTreeMap;
use std::future;

use futures_util::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::generated::health::health_check_response::ServingStatus;
use super::generated::health::health_server::{Health, HealthServer};
use super::generated::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use super::generated::plugin::grpc_broker_server::{GrpcBroker, GrpcBrokerServer};
use super::generated::plugin::grpc_controller_server::{GrpcController, GrpcControllerServer};
use super::generated::plugin::grpc_stdio_server::{GrpcStdio, GrpcStdioServer};
use super::generated::plugin::{ConnInfo, Empty, StdioData};

/// The name under which go-plugin's ping asks for our health.
const HEALTH_NAME: &str = "plugin";

/// `routes` and go-plugin's services. `Shutdown` cancels `stop`; everything here ends once it is cancelled.
pub(super) fn beside(routes: Routes, stop: &CancellationToken) -> Routes {
    let services = Services { stop: stop.clone() };
    routes
        .add_service(GrpcControllerServer::new(services.clone()))
        .add_service(GrpcBrokerServer::new(services.clone()))
        .add_service(GrpcStdioServer::new(services.clone()))
        .add_service(HealthServer::new(services))
}

#[derive(Clone)]
struct Services {
    stop: CancellationToken,
}

impl Services {
    /// Answers with `items`, cut off when the server stops.
    fn until_stopped<T: Send + 'static>(
        &self,
        items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<BoxStream<T>> {
        Response::new(Box::pin(items.take_until(self.stop.clone().cancelled_owned())))
    }
}

#[tonic::async_trait]
impl GrpcController for Services {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.stop.cancel(); // ends gracefully: this answer is still written
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl GrpcBroker for Services {
    /// Reads until the host ends the stream. It may offer connections of its own; a provider needs none.
    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<BoxStream<ConnInfo>>, Status> {
        let offers = request.into_inner();
        Ok(self.until_stopped(offers.filter_map(|_ignored| future::ready(None))))
    }
}

#[tonic::async_trait]
impl GrpcStdio for Services {
    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<BoxStream<StdioData>>, Status> {
        Ok(self.until_stopped(stream::pending()))
    }
}

#[tonic::async_trait]
impl Health for Services {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.into_inner().service.as_str() {
            "" | HEALTH_NAME => Ok(Response::new(serving())),
            unknown => Err(Status::not_found(format!("there is no service {unknown:?}"))),
        }
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let statuses = BTreeMap::from([(HEALTH_NAME.to_owned(), serving())]);
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<BoxStream<HealthCheckResponse>>, Status> {
        let now = match self.check(request).await {
            Ok(response) => response.into_inner(),
            Err(_not_found) => HealthCheckResponse {
                status: ServingStatus::ServiceUnknown.into(), // as its protocol wants it here
            },
        };
        Ok(self.until_stopped(stream::once(future::ready(Ok(now))).chain(stream::pending())))
    }
}

fn serving() -> HealthCheckResponse {
    HealthCheckResponse {
        status: ServingStatus::Serving.into(),
    }
}
