//! Who may connect.

use std::collections::BTreeMap;

use rumqttc::mqttbytes::v4::ConnectReturnCode;

use super::packet::Connect;
use crate::config::Secret;

/// Known users, and whether others may come.
#[derive(Debug)]
pub struct Access {
    /// Nobody needs a name.
    pub anonymous: bool,
    /// Passwords by name.
    pub users: BTreeMap<String, Secret>,
}

impl Access {
    /// Lets a client in, or says by which code it is refused. A name that is
    /// given must be right, whoever else may come.
    pub fn check(&self, connect: &Connect) -> Result<(), ConnectReturnCode> {
        match &connect.user {
            None if self.anonymous => Ok(()),
            None => Err(ConnectReturnCode::NotAuthorized),
            Some(_) if self.anonymous && self.users.is_empty() => Ok(()),
            Some(user) => {
                let given = connect.password.as_deref().unwrap_or_default();
                let known = self.users.get(user).is_some_and(|password| equal(password.0.as_bytes(), given));
                if known { Ok(()) } else { Err(ConnectReturnCode::BadUserNamePassword) }
            }
        }
    }
}

/// Takes the same time wherever two texts of a length differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(user: Option<&str>, password: Option<&[u8]>) -> Connect {
        let (user, password) = (user.map(str::to_owned), password.map(Into::into));
        Connect { old: false, client: String::new(), clean: true, keepalive: 0, will: None, user, password }
    }

    #[test]
    fn a_given_name_must_be_right_and_none_need_be_given_only_where_told() {
        let users = || BTreeMap::from([("plant".to_owned(), Secret("secret".to_owned()))]);
        let closed = Access { anonymous: false, users: users() };
        let mixed = Access { anonymous: true, users: users() };
        let open = Access { anonymous: true, users: BTreeMap::new() };
        let right = connect(Some("plant"), Some(b"secret"));
        for access in [&closed, &mixed, &open] {
            assert_eq!(access.check(&right), Ok(()));
        }
        for wrong in [connect(Some("plant"), Some(b"secreT")), connect(Some("plant"), None), connect(Some("other"), Some(b"secret"))] {
            assert_eq!(closed.check(&wrong), Err(ConnectReturnCode::BadUserNamePassword));
            assert_eq!(mixed.check(&wrong), Err(ConnectReturnCode::BadUserNamePassword));
            assert_eq!(open.check(&wrong), Ok(()), "KubeEdge's broker takes any name");
        }
        assert_eq!(closed.check(&connect(None, None)), Err(ConnectReturnCode::NotAuthorized));
        assert_eq!(mixed.check(&connect(None, None)), Ok(()));
    }
}
