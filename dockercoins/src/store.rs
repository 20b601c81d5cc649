//! The connection to redis: one, kept, and opened again after whatever went wrong with it.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline};

/// A redis server, connected to when it is first needed.
pub(crate) struct Store {
    client: redis::Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    limit: Duration,
}

impl Store {
    /// Returns the store at `host:port`, whose every answer must come within `limit`.
    pub(crate) fn new(address: &str, limit: Duration) -> anyhow::Result<Self> {
        let client = redis::Client::open(format!("redis://{address}/"))
            .with_context(|| format!("{address} is no address of a redis"))?;
        Ok(Self { client, connection: Mutex::new(None), limit })
    }

    /// Runs `commands` in one round trip. After a failure the next call connects anew.
    pub(crate) async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> anyhow::Result<T> {
        let limit = self.limit;
        let result = match tokio::time::timeout(limit, self.ask(commands)).await {
            // Its message repeats its cause, so the cause is not kept.
            Ok(result) => result.map_err(|error| anyhow::anyhow!("redis: {error}")),
            Err(_) => Err(anyhow::anyhow!("redis: no answer within {limit:?}")),
        };
        if result.is_err() {
            self.keep(None);
        }
        result
    }

    async fn ask<T: FromRedisValue>(&self, commands: &Pipeline) -> redis::RedisResult<T> {
        let mut connection = self.connection().await?;
        commands.query_async(&mut connection).await
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        let open = self.connection.lock().expect("no holder panics").clone();
        if let Some(connection) = open {
            return Ok(connection);
        }
        // The limit above is for connecting and asking together.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.keep(Some(connection.clone()));
        Ok(connection)
    }

    fn keep(&self, connection: Option<MultiplexedConnection>) {
        *self.connection.lock().expect("no holder panics") = connection;
    }
}
