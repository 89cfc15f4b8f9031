//! Where Redis is and who we are there.

use std::fmt;

use url::{Host, Url};

/// Port of a URL that names none.
const DEFAULT_PORT: u16 = 6379;

/// One Redis server and the login for it. The password is in no `Debug` or `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
    database: u8,
}

/// Why a Redis URL was refused; each sentence says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Write `redis://`; TLS to Redis ends in a proxy beside this process.
    #[error(
        "TLS to Redis is not supported yet: write redis://HOST:PORT and let a local proxy such as stunnel add the TLS"
    )]
    Tls,
    /// Let Redis listen on TCP.
    #[error(
        "Redis over a unix socket is not supported: write redis://127.0.0.1:6379 and let Redis listen there"
    )]
    Unix,
    /// Name one plain Redis server.
    #[error("{0:?} is no scheme of a Redis URL: write redis://[user[:password]@]host[:port][/database]")]
    Scheme(String),
    /// Correct the URL.
    #[error("this is no Redis URL ({0}): write redis://[user[:password]@]host[:port][/database]")]
    Form(String),
    /// Name a database from 0 to 255.
    #[error("the database is a number from 0 to 255: write redis://host:port/0")]
    Database,
    /// Leave it out, or write it as the part of the URL it belongs to.
    #[error("a Redis URL takes no parameters: remove everything from the ? or # on")]
    Parameters,
}

impl Address {
    /// Reads `redis://[user[:password]@]host[:port][/database]`; user and password may be percent-encoded.
    /// `redis://:password@host` is the default user.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|error| AddressError::Form(error.to_string()))?;
        match url.scheme() {
            "redis" => {}
            "rediss" | "valkeys" => return Err(AddressError::Tls),
            "unix" | "redis+unix" | "redis-socket" => return Err(AddressError::Unix),
            other => return Err(AddressError::Scheme(other.to_owned())),
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Parameters);
        }
        let host = match url.host() {
            Some(Host::Domain("")) | None => {
                return Err(AddressError::Form("the host is missing".to_owned()));
            }
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
        };
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| AddressError::Database)?,
        };
        Ok(Self {
            host,
            port: url.port().unwrap_or(DEFAULT_PORT),
            user: Some(url.username()).filter(|user| !user.is_empty()).map(unescape).transpose()?,
            password: url.password().map(unescape).transpose()?,
            database,
        })
    }

    /// Name or IP address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The ACL user; `None` is Redis's default user.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The secret. Whoever takes it keeps it out of logs.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The numbered database for keys; channels have none.
    pub fn database(&self) -> u8 {
        self.database
    }
}

/// Resolves `%xx`.
fn unescape(text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let byte = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).map_err(|_| AddressError::Form("user or password is not UTF-8".to_owned()))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis://")?;
        if self.user.is_some() || self.password.is_some() {
            f.write_str(self.user().unwrap_or_default())?;
            f.write_str(if self.password.is_some() { ":***@" } else { "@" })?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_url_is_read() {
        let full = Address::parse("redis://edge:s%3Acret@cache.local:7000/3").unwrap();
        assert_eq!((full.host(), full.port(), full.database()), ("cache.local", 7000, 3));
        assert_eq!((full.user(), full.password()), (Some("edge"), Some("s:cret")));
        let short = Address::parse("redis://127.0.0.1").unwrap();
        assert_eq!(
            (short.host(), short.port(), short.user(), short.password()),
            ("127.0.0.1", 6379, None, None)
        );
        let default_user = Address::parse("redis://:pw@[::1]:1").unwrap();
        assert_eq!((default_user.host(), default_user.user()), ("::1", None));
        assert_eq!(default_user.password(), Some("pw"));
    }

    #[test]
    fn the_password_shows_nowhere() {
        let address = Address::parse("redis://edge:hunter2@[::1]:7000/3").unwrap();
        assert_eq!(address.to_string(), "redis://edge:***@[::1]:7000/3");
        assert!(!format!("{address:?}").contains("hunter2"));
        for wrong in ["redis://edge:hunter2@host:99999", "rediss://edge:hunter2@h", "redis://u:hunter2@h/x"] {
            let error = Address::parse(wrong).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_not_supported_says_what_to_write() {
        assert_eq!(Address::parse("rediss://h"), Err(AddressError::Tls));
        assert_eq!(Address::parse("unix:///run/redis.sock"), Err(AddressError::Unix));
        assert_eq!(Address::parse("redis://h/256"), Err(AddressError::Database));
        assert_eq!(Address::parse("redis://h?protocol=resp3"), Err(AddressError::Parameters));
        for wrong in ["localhost:6379", "http://h", "redis://", "", "redis:///0", "redis-sentinel://h"] {
            let sentence = Address::parse(wrong).unwrap_err().to_string();
            assert!(sentence.contains("write redis://"), "{wrong}: {sentence}");
        }
    }
}
