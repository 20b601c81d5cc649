//! The flags about Consul, and the environment variables that Consul's own tools use for them.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::{Config, Error, Secret, Tls};

/// The flags about Consul. An empty value counts as not given.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Consul")]
pub struct Args {
    /// Where Consul's HTTP API is: host:port, a URL (its path is a prefix), or the path of a unix
    /// socket [default: 127.0.0.1:8500]
    #[arg(long, value_name = "ADDR", env = "CONSUL_HTTP_ADDR", hide_env_values = true)]
    pub consul_addr: Option<Secret>,
    /// The ACL token; better given as a file or in the environment
    #[arg(long, value_name = "TOKEN", env = "CONSUL_HTTP_TOKEN", hide_env_values = true)]
    pub consul_token: Option<Secret>,
    /// A file with the ACL token, used instead of --consul-token; read again when it changes
    #[arg(long, value_name = "FILE", env = "CONSUL_HTTP_TOKEN_FILE", value_parser = file())]
    pub consul_token_file: Option<PathBuf>,
    /// Speak TLS, whatever the scheme of the address [default: as the address says]
    #[arg(long, value_name = "BOOL", env = "CONSUL_HTTP_SSL", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub consul_ssl: Option<Switch>,
    /// Check Consul's certificate [default: true]
    #[arg(long, value_name = "BOOL", env = "CONSUL_HTTP_SSL_VERIFY", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub consul_ssl_verify: Option<Switch>,
    /// PEM file of the authorities that Consul's certificate may come from [default: the public
    /// ones]
    #[arg(long, value_name = "FILE", env = "CONSUL_CACERT", value_parser = file())]
    pub consul_ca_file: Option<PathBuf>,
    /// PEM file of the certificate to show to Consul
    #[arg(long, value_name = "FILE", env = "CONSUL_CLIENT_CERT", value_parser = file())]
    pub consul_client_cert: Option<PathBuf>,
    /// PEM file of that certificate's key
    #[arg(long, value_name = "FILE", env = "CONSUL_CLIENT_KEY", value_parser = file())]
    pub consul_client_key: Option<PathBuf>,
    /// The name that Consul's certificate must have [default: the host of the address]
    #[arg(long, value_name = "NAME", env = "CONSUL_TLS_SERVER_NAME")]
    pub consul_tls_server_name: Option<String>,
    /// The namespace of every request (Consul Enterprise)
    #[arg(long, value_name = "NAME", env = "CONSUL_NAMESPACE")]
    pub consul_namespace: Option<String>,
    /// What older registrators called `CONSUL_CLIENT_CERT`.
    #[arg(long, hide = true, env = "CONSUL_TLSCERT", value_parser = file())]
    consul_tlscert: Option<PathBuf>,
    /// What older registrators called `CONSUL_CLIENT_KEY`.
    #[arg(long, hide = true, env = "CONSUL_TLSKEY", value_parser = file())]
    consul_tlskey: Option<PathBuf>,
}

/// Yes, no, or (an empty value) neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch(Option<bool>);

impl Args {
    /// Returns what the flags say.
    pub fn config(&self) -> Result<Config, Error> {
        let address = self.consul_addr.as_ref().map_or("", Secret::reveal);
        self.complete(Config::parse("--consul-addr", address)?)
    }

    /// Returns what the flags say, but for Consul's address, which is `uri`.
    pub fn config_at(&self, uri: &str) -> Result<Config, Error> {
        self.complete(Config::parse("the registry address", uri)?)
    }

    fn complete(&self, mut config: Config) -> Result<Config, Error> {
        let token = self.consul_token.as_ref().map(|token| token.reveal().trim());
        config.token = token.filter(|token| !token.is_empty()).map(Secret::new);
        config.token_file = given(self.consul_token_file.as_ref());
        config.namespace = self.consul_namespace.clone().filter(|name| !name.trim().is_empty());
        config.tls = Tls {
            ca_file: given(self.consul_ca_file.as_ref()),
            client_cert: given(self.consul_client_cert.as_ref())
                .or_else(|| given(self.consul_tlscert.as_ref())),
            client_key: given(self.consul_client_key.as_ref())
                .or_else(|| given(self.consul_tlskey.as_ref())),
            server_name: self.consul_tls_server_name.clone().filter(|name| !name.is_empty()),
            verify: self.consul_ssl_verify.and_then(|switch| switch.0).unwrap_or(true),
        };
        if let crate::Address::Tcp { tls, .. } = &mut config.address {
            *tls |= self.consul_ssl.and_then(|switch| switch.0).unwrap_or(false);
        }
        let (flag, why) = match (&config.tls.client_cert, &config.tls.client_key) {
            (Some(_), None) => ("--consul-client-cert", "is nothing without --consul-client-key"),
            (None, Some(_)) => ("--consul-client-key", "is nothing without --consul-client-cert"),
            _ => return Ok(config),
        };
        Err(Error::Usage { flag, why: why.into() })
    }
}

/// Reads a path; clap's own way refuses an empty one.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// An environment variable set to nothing is not a file.
fn given(path: Option<&PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty()).cloned()
}

/// Reads the words for yes and no that Consul's own tools take.
fn switch(text: &str) -> Result<Switch, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" => Ok(Switch(None)),
        "1" | "t" | "true" => Ok(Switch(Some(true))),
        "0" | "f" | "false" => Ok(Switch(Some(false))),
        _ => Err("use true or false".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        consul: Args,
    }

    fn parse(args: &[&str]) -> Result<Config, Error> {
        Cli::try_parse_from([&["daemon"], args].concat()).unwrap().consul.config()
    }

    #[test]
    fn every_flag_arrives_in_the_configuration() {
        let config = parse(&[
            "--consul-addr=h:1",
            "--consul-token=sesame",
            "--consul-token-file=/t",
            "--consul-ssl",
            "--consul-ssl-verify=0",
            "--consul-ca-file=/ca",
            "--consul-client-cert=/cert",
            "--consul-client-key=/key",
            "--consul-tls-server-name=server.dc1.consul",
            "--consul-namespace=team",
        ])
        .unwrap();
        assert_eq!(
            config,
            Config {
                address: Address::Tcp {
                    tls: true,
                    host: "h".into(),
                    port: 1,
                    prefix: String::new()
                },
                basic_auth: None,
                kv_prefix: None,
                token: Some(Secret::new("sesame")),
                token_file: Some("/t".into()),
                tls: Tls {
                    ca_file: Some("/ca".into()),
                    client_cert: Some("/cert".into()),
                    client_key: Some("/key".into()),
                    server_name: Some("server.dc1.consul".into()),
                    verify: false,
                },
                namespace: Some("team".into()),
            }
        );
        assert!(!format!("{config:?}").contains("sesame"));
    }

    #[test]
    fn empty_values_count_as_not_given() {
        let flags = ["addr", "token", "token-file", "ssl", "ssl-verify", "ca-file", "client-cert"]
            .map(|flag| format!("--consul-{flag}="));
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        assert_eq!(parse(&flags).unwrap(), Config::from_uri("").unwrap());
    }

    #[test]
    fn a_bad_address_names_its_flag_and_not_its_password() {
        let error = parse(&["--consul-addr=ftp://user:sesame@h"]).unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with("--consul-addr: "), "{error}");
        assert!(!format!("{error:?}").contains("sesame"));
    }

    #[test]
    fn parsed_flags_can_be_printed_without_showing_secrets() {
        let cli = Cli::parse_from(["d", "--consul-token=sesame", "--consul-addr=u:sesame@h"]);
        assert!(!format!("{cli:?}").contains("sesame"));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let error = parse(&["--consul-client-cert=/cert"]).unwrap_err().to_string();
        assert!(error.contains("--consul-client-key"), "{error}");
        let error = parse(&["--consul-client-key=/key"]).unwrap_err().to_string();
        assert!(error.starts_with("--consul-client-key"), "{error}");
    }

    #[test]
    fn a_bad_switch_is_a_usage_error() {
        let error = Cli::try_parse_from(["daemon", "--consul-ssl=maybe"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_help_names_the_environment_and_hides_what_is_in_it() {
        use clap::CommandFactory;
        let help = Cli::command().render_long_help().to_string();
        for name in ["CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_NAMESPACE"] {
            assert!(help.contains(name), "{help}");
        }
        assert!(!help.contains("CONSUL_TLSCERT"), "{help}");
    }
}
