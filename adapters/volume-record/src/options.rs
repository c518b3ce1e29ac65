//! What a store's URL says: where the store is, and its options behind the `?`.

use dvs_domain::failure::{Failure, FailureCode};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use url::Url;

/// The options of a URL, taken one by one: each is there once at most, and none is unknown.
pub struct UrlOptions<'a> {
    url: &'a Url,
    supported: &'static str,
    left: BTreeMap<String, String>,
}

impl<'a> UrlOptions<'a> {
    /// The options of `url`; `supported` is the hint of each refusal.
    ///
    /// # Errors
    /// `bad-request` for an option that is there twice.
    pub fn of(url: &'a Url, supported: &'static str) -> Result<Self, Failure> {
        let mut left = BTreeMap::new();
        for (key, value) in url.query_pairs() {
            if left.insert(key.to_string(), value.into_owned()).is_some() {
                return Err(refused(url, &format!("has the option `{key}` twice"), supported));
            }
        }
        Ok(Self { url, supported, left })
    }

    /// Takes the option `key` as `parse` reads it.
    ///
    /// # Errors
    /// Those of `parse`.
    pub fn take<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let refused = |failure: Failure| match failure.hint() {
            Some(_) => failure,
            None => failure.with_hint(self.supported),
        };
        self.left.remove(key).map(|value| parse(&value).map_err(refused)).transpose()
    }

    /// Takes the option `key`, the number of a user or group. The number that means "no change" to the kernel is
    /// nobody's.
    ///
    /// # Errors
    /// `bad-request` for anything else.
    pub fn take_id(&mut self, key: &str) -> Result<Option<u32>, Failure> {
        let (url, supported) = (self.url, self.supported);
        self.take(key, |value| {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse().ok().filter(|number| digits && *number != u32::MAX);
            let what = format!("has an option `{key}` that is no number of a user or group");
            number.ok_or_else(|| refused(url, &what, supported))
        })
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// `bad-request` for an option that was not taken: it is unknown.
    pub fn end(self) -> Result<(), Failure> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(key) => {
                Err(refused(self.url, &format!("has an option `{key}`, which is unknown"), self.supported))
            }
        }
    }
}

/// The folder of this host that `url` names, whose scheme must be `scheme`.
///
/// # Errors
/// `bad-request` for a URL that has anything but a path and options, or no folder for volumes.
pub fn folder_of(url: &Url, scheme: &str, supported: &'static str) -> Result<PathBuf, Failure> {
    let refuse = |what: &str| Err(refused(url, what, supported));
    if url.scheme() != scheme {
        return refuse(&format!("does not begin with `{scheme}://`"));
    }
    if url.host_str().is_some_and(|host| !host.is_empty()) || url.port().is_some() {
        return refuse("names a host, and its store is in a folder of this one");
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return refuse("has more than a path and options");
    }
    if url.cannot_be_a_base() || !url.path().starts_with('/') {
        return refuse("has no absolute path");
    }
    match url.to_file_path() {
        Ok(folder) if folder != Path::new("/") && !folder.as_os_str().as_encoded_bytes().contains(&0) => {
            Ok(folder)
        }
        _ => refuse("names no folder for volumes"),
    }
}

/// The refusal of `url`, which is wrong in this way.
#[must_use]
pub fn refused(url: &Url, what: &str, supported: &'static str) -> Failure {
    Failure::new(FailureCode::BadRequest, format!("store URL `{url}` {what}")).with_hint(supported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_unknown_and_nothing_is_there_twice() {
        let read = |url: &str| {
            let url = Url::parse(url).unwrap();
            let mut options = UrlOptions::of(&url, "hint")?;
            let uid = options.take_id("uid")?;
            options.end().map(|()| uid)
        };
        assert_eq!(read("x:///v").unwrap(), None);
        assert_eq!(read("x:///v?uid=7").unwrap(), Some(7));
        for bad in ["uid=-1", "uid=+1", "uid=4294967295", "uid=7&uid=7", "colour=red", "uid="] {
            let refused = read(&format!("x:///v?{bad}")).unwrap_err();
            assert_eq!((refused.code(), refused.hint()), (FailureCode::BadRequest, Some("hint")), "{bad}");
        }
    }

    #[test]
    fn a_folder_is_an_absolute_path_of_this_host() {
        let folder = |url: &str| Url::parse(url).ok().and_then(|url| folder_of(&url, "x", "hint").ok());
        assert_eq!(folder("x:///srv/a%20b/v?uid=1"), Some(PathBuf::from("/srv/a b/v")));
        for bad in
            ["y:///v", "x://host/v", "x://user@/v", "x:v", "x:", "x:///", "x:///..", "x:///v#a", "x:///v%00"]
        {
            assert_eq!(folder(bad), None, "{bad}");
        }
    }
}
